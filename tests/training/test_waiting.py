"""A base that waits on the CPU: what of it is on the device while it trains, and how much."""

from __future__ import annotations

import pytest
import torch

from limner.base import find_base, load_base
from limner.rendering import Recipe
from limner.rendering.validation import validation_renderer
from limner.training import encode_pictures, set_up
from tests.second_device import DEVICE, SecondDevice
from tests.training.sets import SUBJECT, full_run, lora_run, write_photo_set
from tests.training.test_loop import PROMPTS, pictures

PARTS = ("unet", "text_encoder", "vae")


@pytest.fixture
def waiting(tiny_folder):
    """A base for work on the second device, whose parts all lie on the CPU."""
    return load_base(find_base(str(tiny_folder)), device=DEVICE, dtype=None, waiting=True)


@pytest.fixture
def device(waiting, tiny_base):
    """The second device, once what is loaded is loaded."""
    with SecondDevice() as device:
        yield device


def on_device(base) -> set[str]:
    """The parts that have a tensor on the device."""
    return {
        part
        for part in PARTS
        if any(t.device == DEVICE for t in (*getattr(base, part).parameters(), *getattr(base, part).buffers()))
    }


def moved(group):
    return type(group)(group.moments.to(DEVICE))


def size_of(*modules) -> int:
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


def test_the_second_device_is_told_from_the_first(device):
    layer = torch.nn.Linear(4, 4)
    layer.to(DEVICE)
    assert layer.weight.device == (layer.weight * 2).device == DEVICE
    assert device.now == 80
    layer.to("cpu")
    assert layer.weight.device == torch.device("cpu")
    assert device.now == 0


@pytest.mark.parametrize(
    ("run", "working"),
    [
        (lora_run(), {"unet"}),
        (lora_run(text_encoder=True), {"unet", "text_encoder"}),
        (full_run(text_encoder=False), {"unet"}),
        (full_run(), {"unet", "text_encoder"}),
    ],
)
def test_only_what_works_in_a_step_is_on_the_device(device, waiting, run, working):
    before = {part: getattr(waiting, part).state_dict() for part in PARTS}
    encoded_on = []
    waiting.text_encoder.register_forward_hook(lambda module, args, out: encoded_on.append(args[0].device))
    group = moved(pictures(0))
    with set_up([run], waiting, SUBJECT, PROMPTS[:1], group, None, None) as training:
        assert on_device(waiting) == working
        training.work()
        assert torch.isfinite(torch.tensor(training.work.read(0, 1)[0][0][0]))
    assert encoded_on
    assert set(encoded_on) == {DEVICE}
    assert on_device(waiting) == set()
    for part, state in before.items():
        now = getattr(waiting, part).state_dict()
        assert all(torch.equal(tensor, now[name]) for name, tensor in state.items())


def test_a_waiting_base_trains_to_the_weights_of_one_that_is_there(device, waiting, tiny_base):
    for run in (full_run(), lora_run()):
        states = []
        for base, group in ((tiny_base, pictures(0)), (waiting, moved(pictures(0)))):
            with set_up([run], base, SUBJECT, PROMPTS[:1], group, None, None) as training:
                training.work()
                states.append(training.trainable.state())
        assert all(torch.allclose(states[0][name], tensor, atol=1e-6) for name, tensor in states[1].items())


def test_whole_weights_come_to_the_device_once(device, waiting):
    group = moved(pictures(0))
    before = device.now
    with set_up([full_run(optimizer="adamw8bit")], waiting, SUBJECT, PROMPTS[:1], group, None, None) as training:
        weights = training.trainable.weights.weight.nbytes
        largest = max(tensor.nbytes for tensor in waiting.unet.parameters())
        moments = sum(t.nbytes for t in vars(training.optimizer.adamw.moments).values() if t is not None)
        assert device.peak - before < 1.05 * (weights + moments) + 3 * largest
    del training
    assert device.now - before < 0.1 * weights


def test_pictures_are_encoded_where_the_vae_is_placed_for_that_time(device, waiting, tiny_base, tmp_path):
    photos = write_photo_set(tmp_path / "photos", count=3)
    counts, encode = [], waiting.vae.encode
    waiting.vae.encode = lambda pixels: counts.append((len(pixels), pixels.device)) or encode(pixels)
    settings = {"flip": True, "base_hash": "b"}
    encoded = encode_pictures(waiting, photos.files, (64, 64), cache=tmp_path / "a", at_once=2, **settings)
    assert counts == [(2, DEVICE), (1, DEVICE)] * 2
    assert encoded.moments.device == encoded.mirrored.device == DEVICE
    assert on_device(waiting) == set()
    wanted = encode_pictures(tiny_base, photos.files, (64, 64), cache=tmp_path / "b", at_once=2, **settings)
    assert torch.equal(encoded.moments.cpu(), wanted.moments)
    waiting.vae.to = None  # what is cached asks for no VAE
    encode_pictures(waiting, photos.files, (64, 64), cache=tmp_path / "a", at_once=2, **settings)


def test_validation_pictures_have_all_parts_on_the_device(device, waiting, tmp_path, monkeypatch):
    from limner.rendering import validation

    seen, own = [], validation.render_validation

    def rendering(base, *args, **settings):
        seen.append((on_device(base), settings["vae_batch_size"]))
        return own(base, *args, **settings | {"recipe": Recipe("ddim", 2, 3.0)})

    monkeypatch.setattr(validation, "render_validation", rendering)
    run = lora_run(validation={"every_steps": 1, "count": 2})
    settings = run.variant.validation
    validate = validation_renderer(lambda: waiting, SUBJECT, settings, tmp_path, vae_batch_size=1)
    with set_up([run], waiting, SUBJECT, PROMPTS[:1], moved(pictures(0)), None, None) as training:
        with training.trainable.only(0):
            validate(1)
        assert on_device(waiting) == {"unet"}
    assert seen == [(set(PARTS), 1)]
    assert len(list((tmp_path / "validation").glob("*.png"))) == 2
