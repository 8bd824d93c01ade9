"""The train stage: what it makes, and what it leaves alone."""

from __future__ import annotations

import json

import pytest
import torch

from limner.adapters import attached, load_adapter, load_trained
from limner.adapters.formats import LORA_FILE
from limner.errors import AdapterError, InputError
from tests.recorded import change_photos
from tests.stages.training_room import Room, same, same_adapter, snapshot
from tests.training.sets import full_run, lora_run, write_class_set, write_photo_set


@pytest.fixture
def room(tmp_path, tiny_base):
    return Room(tmp_path, tiny_base)


@pytest.mark.parametrize(
    "run",
    [
        full_run(prior_preservation=True),
        full_run(prior_preservation=False, text_encoder=False, gradient_checkpointing=True),
        full_run(precision="bf16"),
        full_run(precision="fp16", steps=6),
        lora_run(),
        lora_run(text_encoder=True, targets="all", prior_preservation=True, gradient_checkpointing=True),
        lora_run(unet=False, text_encoder=True),
        lora_run(precision="bf16", alpha=1.0),
    ],
    ids=lambda run: f"{run.label}-{run.variant.precision}-{run.variant.text_encoder}",
)
def test_what_is_trained_moves_and_the_base_is_as_it_was(room, run):
    before = snapshot(room.base)
    made = room.train(run)
    assert same(snapshot(room.base), before)
    assert not any(p.requires_grad or p.grad is not None for m in room.base.modules().values() for p in m.parameters())
    adapter = load_trained(made)
    for name, state in adapter.full.items():
        own = room.base.modules()[name].state_dict()
        moved = [key for key in state if not torch.allclose(state[key].float(), own[key], atol=1e-4)]
        assert len(moved) > 0.8 * len(state)
    for updates in adapter.low_rank.values():
        moved = [name for name, update in updates.items() if update.up.abs().max() > 1e-3]
        assert len(moved) > 0.8 * len(updates)  # attention over one position has a constant softmax, so no gradient
        assert all(update.alpha == run.method.resolved(run)["alpha"] for update in updates.values())


def test_modules_that_are_not_trained_are_not_in_the_result(room):
    assert set(load_trained(room.train(full_run(text_encoder=False))).full) == {"unet"}
    assert set(load_trained(room.train(lora_run())).low_rank) == {"unet"}
    both = lora_run(name="both", text_encoder=True)
    assert set(load_trained(room.train(both)).low_rank) == {"unet", "text_encoder"}
    only_text = lora_run(name="text", unet=False, text_encoder=True)
    assert set(load_trained(room.train(only_text)).low_rank) == {"text_encoder"}


def test_no_two_layers_start_alike(room):
    """Neither within a module nor across the UNet and the text encoder; a layer's scale depends on its width only."""
    made = load_trained(room.train(lora_run(text_encoder=True, steps=1, learning_rate=1e-12)))
    starts = [
        (module, name, update.down.flatten()[:4] / update.down.flatten()[:4].norm())
        for module, updates in made.low_rank.items()
        for name, update in updates.items()
    ]
    assert {module for module, _, _ in starts} == {"unet", "text_encoder"}
    for index, (module, name, start) in enumerate(starts):
        alike = [other[:2] for other in starts[:index] if torch.allclose(start, other[2], atol=1e-3)]
        assert not alike, f"{module}.{name} starts as {alike}"


def test_one_picture_is_learnt_by_heart(room):
    room.photo_set = write_photo_set(room.folder / "one", count=1)
    run = full_run(steps=100, learning_rate=5e-3, prior_preservation=False, text_encoder=False)
    log = room.train(run).record.to_json()["log"]
    first, last = (sum(row["loss"] for row in rows) / 25 for rows in (log[:25], log[-25:]))
    assert last < 0.7 * first


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(room):
    first, again = (room.train(lora_run(), name=name) for name in ("a", "b"))
    assert same_adapter(first, again)
    other = room.train(lora_run(training_seeds=[1]), name="c")
    assert not same_adapter(first, other)


def test_ranks_see_the_same_data_noise_and_timesteps(room):
    """At the first step every update is zero, so equal losses mean equal batches."""
    losses = [room.train(lora_run(rank=rank, steps=1)).record.log[0].loss for rank in (1, 4)]
    full = room.train(full_run(steps=1)).record.to_json()["log"][0]
    assert losses[0] == losses[1]
    assert full["instance_loss"] == pytest.approx(losses[0], rel=1e-5)


def test_the_logged_loss_is_instance_plus_weighted_prior(room):
    made = room.train(full_run(prior_loss_weight=0.25, batch_size=2, gradient_accumulation_steps=2))
    for row in made.record.to_json()["log"]:
        assert row["loss"] == pytest.approx(row["instance_loss"] + 0.25 * row["prior_loss"], rel=1e-5)


def test_accumulated_micro_batches_are_one_large_batch(room):
    settings = {"steps": 2, "learning_rate": 1e-4, "text_encoder": True}
    large = load_trained(room.train(lora_run(batch_size=4, **settings), name="large"))
    small = load_trained(room.train(lora_run(gradient_accumulation_steps=4, **settings), name="small"))
    for name, update in large.low_rank["unet"].items():
        assert torch.allclose(update.up, small.low_rank["unet"][name].up, atol=2e-6)


@pytest.mark.parametrize("setting", [{"snr_gamma": 0.5}, {"noise_offset": 0.5}, {"flip": True}, {"ema_decay": 0.9}])
def test_settings_change_the_result(room, setting):
    assert not same_adapter(room.train(lora_run(), name="plain"), room.train(lora_run(**setting), name="set"))


def test_what_is_current_is_not_trained_again(room):
    run = lora_run()
    made = room.train(run)
    assert room.loaded == 1
    written = (made.folder / LORA_FILE).stat().st_mtime_ns
    renamed = lora_run(log_to=["tensorboard"], checkpoint_every_steps=7, validation={"every_steps": 2})
    for again in (run, renamed):
        room.train(again, class_set=None)
    assert room.loaded == 1
    assert (made.folder / LORA_FILE).stat().st_mtime_ns == written
    room.photo_set = write_photo_set(room.folder / "others", first=50)
    room.train(run)
    assert room.loaded == 2


def test_class_images_count_only_where_they_are_trained_on(room):
    room.train(lora_run())
    room.class_set = write_class_set(room.folder / "more", count=3)
    room.train(lora_run())
    assert room.loaded == 1
    with pytest.raises(InputError, match="needs class images"):
        room.train(full_run(), class_set=None)
    assert room.loaded == 1


def test_a_missing_tracker_is_told_before_the_base_is_loaded(room):
    from importlib.util import find_spec

    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(InputError, match="wandb"):
        room.train(lora_run(log_to=["wandb"]))
    assert room.loaded == 0


def test_validation_sees_the_weights_in_training(room):
    seen = {}
    latents = torch.zeros(1, 4, 8, 8)
    embeds = torch.ones(1, 77, 16)

    def predict():
        with torch.no_grad():
            return room.base.unet(latents, 10, embeds, return_dict=False)[0]

    run = lora_run(steps=4, ema_decay=0.5, validation={"every_steps": 2})
    untouched = predict()
    made = room.train(run, validate=lambda step: seen.update({step: predict()}))
    assert list(seen) == [2, 4]
    with attached(room.base.modules(), load_trained(made)):
        assert torch.allclose(predict(), seen[4], atol=1e-5)  # in training convolutions lie in another order
    assert not torch.equal(seen[2], seen[4])
    assert torch.equal(predict(), untouched)


def test_a_lora_on_a_full_result_stores_its_own_part_and_is_joined_with_it(room):
    full = room.train(full_run())
    made = room.train(lora_run(start_from="full"), start=full)
    assert set(load_adapter(made.folder).full) == set()
    joined, start = load_trained(made), load_trained(full)
    assert joined.fixed_hash == start.fixed_hash != ""
    assert set(joined.low_rank) == {"unet"}
    assert made.record.to_json()["start_from"] == {"label": "full", "content_hash": full.content_hash}
    alone = room.train(lora_run(), name="alone")
    assert not same_adapter(made, alone)
    retrained = room.train(full_run(training_seeds=[9]))
    assert retrained.folder == full.folder
    with pytest.raises(AdapterError, match='train "lora-2" again'):
        load_trained(made)


def test_a_lora_goes_on_from_a_lora(room):
    first = room.train(lora_run(name="first", text_encoder=True, steps=2))
    made = room.train(lora_run(name="second", steps=1, learning_rate=1e-9), start=first)
    begun, ended = load_trained(first), load_trained(made)
    for name, update in begun.low_rank["unet"].items():
        assert torch.allclose(update.up, ended.low_rank["unet"][name].up, atol=1e-6)
    assert max(update.up.abs().max() for update in begun.low_rank["unet"].values()) > 1e-3
    assert set(load_adapter(made.folder).low_rank) == {"unet"}
    assert set(ended.low_rank) == {"unet", "text_encoder"}  # the start's own, still acting


def test_a_full_variant_goes_on_from_a_full_one(room):
    first = room.train(full_run(name="first"))
    second = room.train(full_run(name="second", text_encoder=False, steps=1, learning_rate=1e-9), start=first)
    begun, ended = load_trained(first), load_trained(second)
    assert set(ended.full) == {"unet", "text_encoder"}
    for module, state in begun.full.items():
        assert all(torch.allclose(tensor, ended.full[module][key], atol=1e-3) for key, tensor in state.items())


@pytest.mark.parametrize(
    ("start", "run", "message"),
    [
        (lora_run(name="s"), full_run(), 'is low-rank updates, which method = "full" cannot start from'),
        (lora_run(name="s"), lora_run(rank=3), "has rank 2 and alpha 2, this variant 3 and 3"),
        (lora_run(name="s"), lora_run(alpha=1.0), "has rank 2 and alpha 2, this variant 2 and 1"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_the_base_is_loaded(room, start, run, message):
    begun = room.train(start)
    with pytest.raises(InputError, match=message):
        room.train(run, start=begun)
    assert room.loaded == 1


def test_a_start_with_other_targets_is_refused_and_the_base_is_as_it_was(room):
    begun, before = room.train(lora_run(name="s")), snapshot(room.base)
    with pytest.raises(AdapterError, match='set targets = "start" to train'):
        room.train(lora_run(targets="all"), start=begun)
    assert same(snapshot(room.base), before)


def test_no_space_for_the_result_keeps_the_finished_training(room, monkeypatch):
    import limner.stages.train as stage

    run = lora_run()

    def full_disk(folder, adapter):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_adapter", full_disk)
        with pytest.raises(InputError, match="no space left"):
            room.train(run)
    assert not (room.folder / "run" / "adapters" / run.label).exists()
    assert same_adapter(room.train(run), room.train(run, name="whole"))
    assert "continuing after step 3 of 3" in "".join(room.said)


def test_the_record_says_what_was_trained(room):
    made = room.train(lora_run(alpha=1.0))
    record = made.record.to_json()
    assert (record["label"], record["method"]) == ("lora-2", "lora")
    assert record["method_record"] == {"rank": 2, "alpha": 1.0, "scale": 0.5}
    stored = load_adapter(made.folder).low_rank["unet"].values()
    assert record["trainable_parameters"] == sum(u.down.numel() + u.up.numel() for u in stored)
    assert record["loss"] == record["log"][-1]["loss"]
    assert record["seconds"] > 0
    lines = (room.folder / "run" / "work" / "lora-2" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == record["log"]


def test_held_out_photos_are_not_trained_on(room, tmp_path):
    """A set of three with one held out gives the weights of the other two alone, and is another training than all."""
    run = lora_run(rank=1)
    whole = room.train(run, name="whole")
    room.photo_set = change_photos(room.photo_set, lambda place, _: {"held_out": place == 2})
    without = room.train(run, name="without")
    room.photo_set = write_photo_set(tmp_path / "two", 2)
    two = room.train(run, name="two")
    assert same_adapter(without, two)
    assert not same_adapter(without, whole)
    assert without.manifest.key != whole.manifest.key
