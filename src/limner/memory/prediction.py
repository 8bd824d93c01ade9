"""The GPU memory that each stage of a study will take at its peak, from settings and shapes alone.

A figure is what torch reserves at most (`torch.cuda.max_memory_reserved`), without the driver's own memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from limner.base.devices import DTYPES, pictures_at_once
from limner.config import Control, Study, VariantRun, expand_variants
from limner.memory.batches import Batches, batches_of_class, batches_of_control, batches_of_render
from limner.memory.calibration import CALIBRATION, GIB, reserved
from limner.memory.peaks import (
    LATENT_CHANNELS,
    TrainingStep,
    controlnet_count,
    decoding_peak,
    denoising_peak,
    encoding_peak,
    trained_count,
    training_peak,
)
from limner.memory.shapes import Shapes

FP32 = torch.float32
REMAINDER = 2  # bytes that make a bf16 weight exact again
VALIDATED_AT_ONCE = 4  # pictures made while training
ENCODING = "the VAE, encoding the pictures"


@dataclass(frozen=True)
class StagePeak:
    """One stage's prediction. `parts` says what the bytes are for, before the allocator's own share."""

    stage: str
    label: str  # the variant, "" where the stage has none
    parts: dict[str, int]
    at_once: int = 0  # pictures that are rendered together

    @property
    def bytes(self) -> int:
        """What torch will have reserved at the peak."""
        return reserved(sum(self.parts.values()))

    @property
    def gib(self) -> float:
        """The same in GiB."""
        return self.bytes / GIB

    @property
    def name(self) -> str:
        """Stage and variant."""
        return f"{self.stage} {self.label}".strip()


@dataclass(frozen=True)
class Parts:
    """What a study computes with, as far as memory goes."""

    shapes: Shapes
    controlnet: str = ""  # its configuration, as JSON
    checker_count: int = 0  # numbers in the safety checker
    photo_count: int = 0
    scoring_bytes: int = 0  # weights of the models that score pictures while training


def predict(study: Study, parts: Parts) -> list[StagePeak]:
    """The peak of every stage that computes with the base, in the corridor's order."""
    return _predicted(study, parts, expand_variants(study.variants))


def largest(study: Study, parts: Parts) -> list[StagePeak]:
    """`predict`, but of a variant's runs the largest alone: where it fits all others do."""
    runs = expand_variants(study.variants)
    by_size = sorted(runs, key=lambda run: run.method.size(run))
    kept = {run.label for run in {run.variant.model_dump_json(): run for run in by_size}.values()}
    return _predicted(study, parts, [run for run in runs if run.label in kept])


def _predicted(study: Study, parts: Parts, runs: list[VariantRun]) -> list[StagePeak]:
    peaks = [class_images_peak(study, parts)] if renders_class_images(study) else []
    peaks += [train_peak(run, study, parts) for run in runs]
    if study.render.prompts:
        peaks.append(render_peak(study, parts))
    if study.control and study.control.references:
        peaks.append(control_peak(study, study.control, parts))
    return peaks


def class_images_peak(study: Study, parts: Parts) -> StagePeak:
    """Class images: no adapter, no safety checker."""
    settings, size = study.class_images, (study.prepare.size_px, study.prepare.size_px)
    guided, dtype = settings.guidance_scale > 1, rendered_in("auto")
    at_once = pictures_at_once(settings.batch_size, size, _memory_gib(study))
    batches = batches_of_class(study, at_once)
    counted = _rendering(study, replace(parts, checker_count=0), size, batches, guided, dtype)
    return StagePeak("class-images", "", counted, at_once)


def render_peak(study: Study, parts: Parts) -> StagePeak:
    """The grid, at its largest size."""
    settings, size = study.render, _largest_picture(study)
    guided, dtype = settings.guidance_scale > 1, rendered_in(settings.precision)
    at_once = pictures_at_once(settings.batch_size, size, _memory_gib(study))
    counted = _rendering(study, parts, size, batches_of_render(study, at_once), guided, dtype)
    return StagePeak("render", "", counted | _kept_weights(study, parts, dtype), at_once)


def control_peak(study: Study, settings: Control, parts: Parts) -> StagePeak:
    """The references; one without a size is taken as the native square, which is at least as large."""
    size = _largest_reference(study, settings, parts)
    guided, dtype = settings.guidance_scale > 1, rendered_in(study.render.precision)
    at_once = pictures_at_once(study.render.batch_size, size, _memory_gib(study))
    batches = batches_of_control(study, settings, at_once)
    counted = _rendering(study, parts, size, batches, guided, dtype, parts.controlnet)
    return StagePeak("control", "", counted | _kept_weights(study, parts, dtype), at_once)


def _largest_picture(study: Study) -> tuple[int, int]:
    """Width and height of the grid's largest pictures."""
    settings = study.render
    return max([prompt.size or settings.size for prompt in settings.prompts] or [settings.size], key=math.prod)


def _largest_reference(study: Study, settings: Control, parts: Parts) -> tuple[int, int]:
    """Width and height of the largest reference as it is rendered."""
    native, factor = study.prepare.size_px, parts.shapes.vae_factor
    sizes = [row.size or (native, native) for row in settings.references]
    width, height = max(sizes, key=math.prod)
    return width // factor * factor, height // factor * factor


def _memory_gib(study: Study) -> float:
    """The memory of the card that a study is made for; boundless where it is not known."""
    return math.inf if study.memory.budget_gib == "auto" else study.memory.budget_gib


def _rendering(
    study: Study,
    parts: Parts,
    size: tuple[int, int],
    batches: Batches,
    guided: bool,
    dtype: torch.dtype,
    controlnet: str = "",
) -> dict[str, int]:
    """Weights, what a captured step of the largest batch keeps, and the larger of another's rehearsal and decoding.

    Offloaded, the VAE waits while the UNet works and back, and no step is kept meanwhile.
    """
    shapes, offload = parts.shapes, study.memory.offload
    row = denoising_peak(shapes, size, dtype, controlnet) * (2 if guided else 1)
    unet, other = row * batches.largest, row * batches.other
    decoded = decoding_peak(shapes, size, dtype) * min(batches.largest, study.memory.vae_batch_size)
    denoiser = (shapes.count("unet") + (controlnet_count(controlnet) if controlnet else 0)) * dtype.itemsize
    others = (shapes.count("vae") + shapes.count("text_encoder") + parts.checker_count) * dtype.itemsize
    if not offload:
        return {"weights": denoiser + others, "activations": unet + max(other, decoded)}
    if denoiser + unet + other >= others + decoded:
        return {"weights": denoiser, "activations": unet + other}
    return {"weights": others, "activations": decoded}


def _kept_weights(study: Study, parts: Parts, dtype: torch.dtype) -> dict[str, int]:
    """The base's own weights, kept aside while a variant's whole weights stand in for them."""
    replaced = {name for run in expand_variants(study.variants) for name in run.method.replaced_modules(run.variant)}
    replaced |= {"unet", "text_encoder"} if any(adapter.merged for adapter in study.adapters) else set()
    if not replaced or study.memory.offload:
        return {}
    return {"the base's own weights": sum(parts.shapes.count(name) for name in replaced) * dtype.itemsize}


def train_peak(run: VariantRun, study: Study, parts: Parts, *, stacked: int = 1) -> StagePeak:
    """One training, or `stacked` runs of at most this size that are computed together."""
    others = {
        "pictures": _pictures(run, study, parts),
        "base for rendering": _base_for_rendering(study, parts),
        "scoring models": _scoring_models(run, study, parts),
    }
    counted = _training(run, study, parts.shapes, stacked) | _validating(run, study, parts.shapes) | others
    size_px, at_once = study.prepare.size_px, study.memory.vae_batch_size
    vae = parts.shapes.count("vae") * FP32.itemsize + at_once * encoding_peak(parts.shapes, size_px, FP32)
    encoding = {ENCODING: vae} | others  # the pictures are encoded before anything else is there
    return StagePeak("train", run.label, max(counted, encoding, key=lambda bytes_for: sum(bytes_for.values())))


def _training(run: VariantRun, study: Study, shapes: Shapes, stacked: int) -> dict[str, int]:
    """Weights, their state and the activations of one micro-batch."""
    method, variant, dtype = run.method, run.variant, trained_in(run.variant.precision)
    modules, footprint = method.trained_modules(variant), method.footprint(run)
    frozen = [name for name in dict.fromkeys(["unet", *modules]) if not (method.thaws and name in modules)]
    trained = stacked * trained_count(shapes, modules, footprint)
    groups = 2 if variant.prior_preservation else 1
    step = TrainingStep(
        footprint,
        modules,
        study.prepare.size_px,
        dtype,
        variant.gradient_checkpointing,
        rows=stacked * groups * variant.batch_size,
        prompts=stacked * groups,
        micro_batches=variant.gradient_accumulation_steps,
    )
    side = study.prepare.size_px // shapes.vae_factor
    apart = not (method.keeps_gradients or variant.gradient_checkpointing)
    side_stream = 0 if not apart else _side_stream_bytes(trained, step.rows * side * side, dtype)
    averaged = variant.ema_decay is not None
    updating = trained * (FP32.itemsize + dtype.itemsize) if averaged else 0  # masters made whole, beside gradients
    return {
        "frozen weights": sum(shapes.count(name) for name in frozen) * dtype.itemsize,
        "trained weights and moments": int(trained * state_bytes(run, dtype)),
        "moving average": trained * FP32.itemsize if averaged else 0,
        "activations and gradients": max(training_peak(shapes, step) + side_stream, updating),
    }


def _side_stream_bytes(trained: int, positions: int, dtype: torch.dtype) -> int:
    """What gradients of whole weights take that a second stream computes: its memory is its own, so part of them do not
    come where activations went, and what they are computed from stays longer."""
    return int((trained * CALIBRATION.apart + positions * CALIBRATION.side_stream) * dtype.itemsize)


def _validating(run: VariantRun, study: Study, shapes: Shapes) -> dict[str, int]:
    """What pictures made while training take beside all that training keeps: other parts, and a rendering's own."""
    if run.variant.validation.every_steps == 0:
        return {}
    dtype, size, settings = trained_in(run.variant.precision), shapes.native_size, run.variant.validation
    count = settings.count * len(settings.rendered_prompts)
    rows, decoded = 2 * min(count, VALIDATED_AT_ONCE), min(count, study.memory.vae_batch_size)
    encoder = (
        0
        if "text_encoder" in run.method.trained_modules(run.variant)
        else shapes.count("text_encoder") * dtype.itemsize
    )
    # what the allocator keeps of denoising has not the sizes that decoding asks for
    rendering = denoising_peak(shapes, size, dtype) * rows
    rendering += int(decoding_peak(shapes, size, FP32) * decoded * CALIBRATION.plain_slack)
    return {"validation pictures": encoder + shapes.count("vae") * FP32.itemsize + rendering}


def _scoring_models(run: VariantRun, study: Study, parts: Parts) -> int:
    """They stay while a variant trains; what they compute is smaller than the rendering that goes before it."""
    return parts.scoring_bytes if run.variant.validation.scored and not study.memory.offload else 0


def _pictures(run: VariantRun, study: Study, parts: Parts) -> int:
    """Encoded pictures, mean and deviation in fp32."""
    photos = parts.photo_count * (2 if run.variant.flip else 1)
    of_class = study.class_images.count if run.variant.prior_preservation else 0
    side = study.prepare.size_px // parts.shapes.vae_factor
    return (photos + of_class) * 2 * LATENT_CHANNELS * side * side * FP32.itemsize


def _base_for_rendering(study: Study, parts: Parts) -> int:
    """What class images were rendered with stays for the grid, unless it is offloaded."""
    if study.memory.offload or not renders_class_images(study):
        return 0
    counts = [parts.shapes.count(part) for part in ("unet", "text_encoder", "vae")]
    return (sum(counts) + parts.checker_count) * rendered_in("auto").itemsize


def renders_class_images(study: Study) -> bool:
    """Whether class images are to be made by the base."""
    wanted = any(variant.prior_preservation for variant in study.variants)
    return wanted and study.class_images.count > 0 and study.class_images.folder is None


def state_bytes(run: VariantRun, dtype: torch.dtype) -> float:
    """Bytes a trained number takes all the time: weight, what makes it exact, moments, a gradient that is kept."""
    method, variant = run.method, run.variant
    kept = 2 if dtype == torch.bfloat16 else 4  # fp16 cannot hold what it learns
    exact = kept == 2 and method.keeps_exact(variant)
    return (
        kept
        + (REMAINDER if exact else 0)
        + (kept if method.keeps_gradients else 0)
        + variant.optimizer.bytes_per_number
    )


def adapter_bytes(run: VariantRun, shapes: Shapes) -> int:
    """What a variant's result takes on disk."""
    return run.method.disk_bytes(run, shapes.pristine)


def trained_in(precision: str) -> torch.dtype:
    """Arithmetic of training on a GPU."""
    return DTYPES.get(precision, torch.bfloat16)


def rendered_in(precision: str) -> torch.dtype:
    """Arithmetic of rendering on a GPU."""
    return DTYPES.get(precision, torch.float16)
