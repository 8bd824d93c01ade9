"""What a study takes at its peak, and how it is made to fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from limner.base import find_base, load_base
from limner.config import Study, expand_variants
from limner.embeddings import find_embedder
from limner.memory import (
    Parts,
    Shapes,
    faults,
    fit,
    largest_stack,
    predict,
    read_parts,
    read_shapes,
    reserved,
    train_peak,
    usable,
)
from limner.memory.calibration import CALIBRATION, GIB
from limner.memory.peaks import TrainingStep, decoding_peak, denoising_peak, trained_count, training_peak
from limner.memory.prediction import state_bytes
from limner.memory.shapes import SD15
from limner.methods.full import ThawedShapes
from limner.methods.lora import UpdateShapes

SD15_PARTS = Parts(Shapes(**{part: json.dumps(config) for part, config in SD15.items()}), photo_count=20)


def study(*variants: dict, **tables) -> Study:
    """A study of these variants at SD 1.5's size."""
    subject = {"photos": "photos", "class_noun": "cat"}
    render = {"prompts": [{"name": "a", "prompt": "a {subject}"}]}
    return Study.model_validate({"subject": subject, "variants": variants, "render": render} | tables)


def peaks(of: Study) -> dict[str, int]:
    return {peak.name: peak.bytes for peak in predict(of, SD15_PARTS)}


def test_shapes_without_weights_have_as_many_numbers_as_the_base(tiny_folder):
    shapes, base = read_shapes(find_base(str(tiny_folder))), load_base(find_base(str(tiny_folder)))
    for part in ("unet", "text_encoder", "vae"):
        assert shapes.count(part) == sum(p.numel() for p in getattr(base, part).parameters())
    assert (shapes.vae_factor, shapes.text_width) == (8, 16)


def test_sd15_has_its_published_size():
    counts = {part: SD15_PARTS.shapes.count(part) for part in SD15}
    assert counts == {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863}


@pytest.mark.parametrize("of", [denoising_peak, decoding_peak])
def test_no_bucket_takes_more_than_the_square_that_is_counted(of):
    shapes = SD15_PARTS.shapes
    square, *wide = (of(shapes, size, torch.float16) for size in [(512, 512), (576, 448), (640, 384), (384, 640)])
    assert all(0.9 * square < peak <= square for peak in wide)


def test_a_rank_costs_as_the_updates_that_are_trained(tiny_folder, tiny_base):
    from limner.adapters import target_layers
    from limner.adapters.low_rank import initial_update

    shapes, layers = read_shapes(find_base(str(tiny_folder))), dict(tiny_base.unet.named_modules())
    for targets in ("attention", "transformer", "all"):
        updates = [initial_update(layers[n], 4, 4.0, 0, 0) for n in target_layers(tiny_base.unet, targets)]
        assert trained_count(shapes, ("unet",), UpdateShapes(4, targets)) == sum(
            u.down.numel() + u.up.numel() for u in updates
        )


def test_activations_grow_with_the_picture_and_shrink_with_checkpointing(tiny_folder):
    shapes = read_shapes(find_base(str(tiny_folder)))
    asked = {"footprint": ThawedShapes(), "modules": ("unet",), "dtype": torch.bfloat16}
    asked |= {"gradient_checkpointing": False, "rows": 1, "prompts": 1, "size_px": 512}
    large = training_peak(shapes, TrainingStep(**asked))
    small = training_peak(shapes, TrainingStep(**asked | {"size_px": 256}))
    spared = training_peak(shapes, TrainingStep(**asked | {"gradient_checkpointing": True}))
    assert 1.9 < training_peak(shapes, TrainingStep(**asked | {"rows": 2})) / large < 2.1
    assert 3 * small < large < 5 * small
    assert spared < 0.7 * large
    assert denoising_peak(shapes, (512, 512), torch.float16) < spared


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"optimizer": "adamw8bit", "master_weights": "none"}, 4.03125),
        ({"optimizer": "adamw8bit"}, 6.03125),
        ({}, 12),
        ({"precision": "fp32"}, 12),
    ],
)
def test_bytes_of_a_trained_weight(settings, expected):
    run = expand_variants(study({"method": "full", **settings}).variants)[0]
    dtype = torch.float32 if settings.get("precision") == "fp32" else torch.bfloat16
    assert state_bytes(run, dtype) == expected


def test_gradients_of_whole_weights_are_there_from_the_start_of_a_second_micro_batch(tiny_folder):
    shapes = read_shapes(find_base(str(tiny_folder)))
    asked = TrainingStep(ThawedShapes(), ("unet",), 256, torch.bfloat16, False, rows=1, prompts=1)
    once, twice, often = (training_peak(shapes, replace(asked, micro_batches=n)) for n in (1, 2, 5))
    gradients = 2 * shapes.count("unet")
    assert once < twice <= once + 2 * gradients  # small tensors take whole blocks
    assert twice == often


def test_the_small_trainings_of_sd15_are_as_small_as_the_project_wants():
    low = {"gradient_checkpointing": True, "prior_preservation": False}
    full = {"method": "full", "optimizer": "adamw8bit", "master_weights": "none", **low}
    small = study(full, {"method": "lora", "rank": [16], **low}, memory={"offload": True, "vae_batch_size": 1})
    found = peaks(small)
    assert found["train full"] < 7.5 * GIB
    assert found["train lora-16"] < 3.0 * GIB


def test_pictures_made_while_training_are_counted():
    lora = {"method": "lora", "rank": [16], "prior_preservation": False}
    shown = lora | {"validation": {"every_steps": 10, "count": 2}}
    others = SD15_PARTS.shapes.count("vae") * 4 + SD15_PARTS.shapes.count("text_encoder") * 2
    denoising = 2 * 2 * denoising_peak(SD15_PARTS.shapes, (512, 512), torch.bfloat16)  # 2 pictures, guided
    decoding = 2 * decoding_peak(SD15_PARTS.shapes, (512, 512), torch.float32) * CALIBRATION.plain_slack
    (peak,) = [peak for peak in predict(study(shown), SD15_PARTS) if peak.stage == "train"]
    assert peak.parts["validation pictures"] == others + denoising + int(decoding)
    assert peak.bytes > peaks(study(lora))["train lora-16"]


def test_models_that_score_while_training_are_counted_where_they_compute(tiny_folder, tmp_path):
    asked = {"method": "lora", "rank": [4], "validation": {"every_steps": 10, "score": True}}
    measured = {"likeness": ["efficientnet-lite0", "base", "nobody/nowhere-at-all"], "prompt_fidelity": "base"}
    plain = {**asked, "validation": {"every_steps": 10}}
    base = find_base(str(tiny_folder))
    places = [find_embedder(name, base) for name in ("efficientnet-lite0", "base", "base")]
    parts = read_parts(study(asked, measure=measured), tmp_path, base)
    weights = [place.load_image()._model for place in places]
    assert parts.scoring_bytes == pytest.approx(sum(map(bytes_of, weights)), rel=0.3)
    assert parts.scoring_bytes == sum(place.device_bytes for place in places)
    assert places[1].device_bytes == bytes_of(weights[1])
    assert read_parts(study(plain, measure=measured), tmp_path, base).scoring_bytes == 0

    def counted(of: Study) -> int:
        return next(peak.parts["scoring models"] for peak in predict(of, replace(SD15_PARTS, scoring_bytes=7 * GIB)))

    assert counted(study(asked)) == 7 * GIB
    assert counted(study(plain)) == 0
    assert counted(study(asked, memory={"offload": True})) == 0  # they score on the processor then


def bytes_of(module: torch.nn.Module) -> int:
    return sum(4 * parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("budget", [8, 12, 16, 24])
def test_a_study_is_made_to_fit_with_no_more_than_is_needed(budget):
    asked = study({"method": "full"}, {"method": "lora", "rank": [2, 16]}, class_images={"count": 10})
    fitted = fit(asked, SD15_PARTS, budget, {})
    assert max(peaks(fitted.study).values()) <= usable(budget)
    assert faults(fitted.study, SD15_PARTS, budget) == []
    if budget == 24:
        assert fitted.changes == {}
    else:
        assert max(peaks(asked).values()) > usable(budget)
        assert ("variants.0.master_weights" in fitted.changes) == (budget == 8)


def test_the_effective_batch_stays_when_a_batch_is_divided():
    asked = study({"method": "lora", "rank": [4], "batch_size": 6, "gradient_accumulation_steps": 2})
    variant = fit(asked, SD15_PARTS, 3.2, {}).study.variants[0]
    assert variant.batch_size < 6
    assert variant.batch_size * variant.gradient_accumulation_steps == 12


def test_what_the_author_wrote_is_not_changed_and_is_what_the_fault_names():
    asked = study({"method": "full", "optimizer": "adamw", "prior_preservation": False})
    fitted = fit(asked, SD15_PARTS, 8, {"variants.0.optimizer.name": "study"})
    assert fitted.study.variants[0].optimizer.name == "adamw"
    (fault,) = faults(fitted.study, SD15_PARTS, 8)
    assert fault.startswith("train full needs about ")
    assert 'it fits with variants.1.optimizer.name = "adamw8bit"' in fault
    assert "needs a card of 13 GiB" in fault or "needs a card of 14 GiB" in fault


def test_what_cannot_fit_at_all_says_what_smaller_training_would():
    asked = study({"method": "full", "prior_preservation": False})
    (fault,) = faults(fit(asked, SD15_PARTS, 6, {}).study, SD15_PARTS, 6)
    assert 'a LoRA (method = "lora") needs far less' in fault


def test_as_many_variants_are_stacked_as_fit():
    asked = study({"method": "lora", "rank": [2, 16, 128]})
    run = expand_variants(asked.variants)[-1]
    assert largest_stack(run, 7, asked, SD15_PARTS, None) == 7
    assert largest_stack(run, 7, asked, SD15_PARTS, 3) == 1
    some = largest_stack(run, 7, asked, SD15_PARTS, 8)
    assert 1 < some < 7
    assert train_peak(run, asked, SD15_PARTS, stacked=some).bytes <= usable(8)
    assert train_peak(run, asked, SD15_PARTS, stacked=some + 1).bytes > usable(8)


def test_the_allocators_share_is_counted():
    assert reserved(10 * GIB) == int(10 * GIB * CALIBRATION.slack) + CALIBRATION.workspace
    assert usable(8) == 8 * GIB - CALIBRATION.context
