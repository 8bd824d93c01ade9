"""`limner export`: a trained adapter, or somebody's LoRA, as the files that other programs read."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from limner.adapters.exchange import save_bin, save_diffusers, save_kohya
from limner.adapters.exchange.merging import merged_weights
from limner.adapters.exchange.provenance import Provenance, card, full_metadata, lora_metadata
from limner.adapters.formats import LORA_FILE
from limner.artifacts import require_absent, whole_folder, write_whole
from limner.base.find import find_vae
from limner.base.single_file.names import canonical_key
from limner.base.single_file.opening import OpenedBase, open_base
from limner.base.single_file.parts import StoredTensor
from limner.base.single_file.writing import fill_folder, write_single_file
from limner.base.weights.streaming import TensorFile
from limner.errors import AdapterError, InputError
from limner.exporting.source import Source, open_source

FILE_SUFFIX = ".safetensors"
LORA_BIN = "pytorch_lora_weights.bin"
CARD, PICTURES = "README.md", "images"


@dataclass(frozen=True)
class Order:
    """What is wanted: where it goes, in which precision (None: as it is), at which strength a LoRA is merged."""

    source: Source
    destination: Path
    origin: Provenance
    dtype: torch.dtype | None = None
    strength: float = 1.0
    legacy_bin: bool = False
    form: str = ""


@dataclass(frozen=True)
class Exported:
    """What was written: a LoRA's file beside the base that it needs, or a whole model."""

    lora: Path | None = None
    model: Path | None = None
    strength: float = 1.0  # at which the LoRA was merged, or is to be used in the proof


def export(
    path: Path,
    destination: Path,
    form: str,
    *,
    base: str = "",
    dtype: torch.dtype | None = None,
    strength: float = 1.0,
    legacy_bin: bool = False,
) -> tuple[Source, Exported]:
    """Write the adapter at `path` in one of FORMS to `destination`, with a model card beside it.

    A LoRA that was trained on top of a full result takes that base along, or is merged into it. Raises AdapterError
    for what is no adapter or cannot have that form, BaseError for a base that is needed and not known, DiskError where
    `destination` is taken; nothing is written then.
    """
    if form not in FORMS:
        raise InputError(f'--format "{form}" is unknown; there are {", ".join(FORMS)}')
    require_absent(destination)
    source = open_source(path, base)
    location = source.base() if source.base_name else None
    order = Order(source, destination, source.provenance(location), dtype, strength, legacy_bin, form)
    return source, FORMS[form](order)


def _diffusers(order: Order) -> Exported:
    """A folder: the LoRA's file, and the base where it is a result of training too."""
    source = order.source
    if source.changes:
        source.adapter()  # says why it cannot be written as a LoRA
    with whole_folder(order.destination) as folder:
        if source.full:
            with base_of(source) as (opened, weights):
                fill_folder(folder, weights, opened.configuration, order.dtype, others=opened.others)
        if source.low_rank:
            _save_lora(order, folder)
        _write_card(order, folder, folder / CARD)
    lora = order.destination / (LORA_BIN if order.legacy_bin else LORA_FILE) if source.low_rank else None
    return Exported(lora, order.destination if source.full else None, order.strength)


def _save_lora(order: Order, folder: Path) -> None:
    if order.legacy_bin:
        save_bin(folder / LORA_BIN, order.source.low_rank, order.dtype)
        return
    metadata = lora_metadata(order.origin, order.source.low_rank)
    save_diffusers(folder / LORA_FILE, order.source.low_rank, metadata, order.dtype)


def _kohya(order: Order) -> Exported:
    """One file of kohya's keys; with the base as one file beside it where that is a result of training too."""
    source, destination = order.source, order.destination
    if source.changes:
        source.adapter()  # says why it cannot be written as a LoRA
    if not source.low_rank:
        raise AdapterError(
            f"{source.path} is a full result, not a LoRA; use --format single-file, or limner lora extract"
        )
    metadata = lora_metadata(order.origin, source.low_rank)
    if not source.full:
        file = destination if destination.suffix == FILE_SUFFIX else destination / f"{source.label}{FILE_SUFFIX}"
        save_kohya(file, source.low_rank, metadata, order.dtype)
        _write_card(order, file.parent, file.with_suffix(".md"))
        return Exported(lora=file, strength=order.strength)
    if destination.suffix == FILE_SUFFIX:
        raise AdapterError(
            f"{source.path} was trained on top of a full result and does nothing without it: give a folder, so that "
            "that base is exported too, or use --format merged"
        )
    with whole_folder(destination) as folder:
        save_kohya(folder / f"{source.label}{FILE_SUFFIX}", source.low_rank, metadata, order.dtype)
        with base_of(source) as (opened, weights):
            base = folder / f"{source.label}-base{FILE_SUFFIX}"
            write_single_file(base, weights, opened.configuration, order.dtype, full_metadata(order.origin))
        _write_card(order, folder, folder / CARD)
    names = (destination / f"{source.label}{end}{FILE_SUFFIX}" for end in ("", "-base"))
    return Exported(next(names), next(names), order.strength)


def _merged(order: Order) -> Exported:
    """A whole model with everything in it: one file for NAME.safetensors, else a diffusers folder."""
    source, destination = order.source, order.destination
    with base_of(source) as (opened, weights):
        merged = merged_weights(weights, source.low_rank, order.strength, source.changes)
        if destination.suffix == FILE_SUFFIX:
            write_single_file(destination, merged, opened.configuration, order.dtype, full_metadata(order.origin))
            _write_card(order, destination.parent, destination.with_suffix(".md"), is_model=True)
        else:
            with whole_folder(destination) as folder:
                fill_folder(folder, merged, opened.configuration, order.dtype, others=opened.others)
                _write_card(order, folder, folder / CARD, is_model=True)
    return Exported(model=destination, strength=order.strength)


def _single_file(order: Order) -> Exported:
    """One file of the original layout, a LoRA merged into it."""
    if order.destination.suffix != FILE_SUFFIX:
        raise InputError(f"--format single-file writes one file; give NAME{FILE_SUFFIX} instead of {order.destination}")
    return _merged(order)


FORMS: dict[str, Callable[[Order], Exported]] = {
    "diffusers": _diffusers,
    "kohya": _kohya,
    "merged": _merged,
    "single-file": _single_file,
}


@contextlib.contextmanager
def base_of(source: Source) -> Iterator[tuple[OpenedBase, dict[str, dict[str, StoredTensor]]]]:
    """The base with the full weights that were trained in place of its own, opened for streaming."""
    location, vae = source.base(), source.settings.vae
    with contextlib.ExitStack() as opened:
        base = open_base(location.path, opened, vae=find_vae(vae) if vae else None)
        weights = {part: dict(tensors) for part, tensors in base.parts.tensors.items()}
        for module, path in source.full.items():
            file = opened.enter_context(TensorFile(path))
            trained = {
                canonical_key(module, name): StoredTensor(file, name, entry.shape)
                for name, entry in file.header.tensors.items()
            }
            tensors = weights[module]
            if trained.keys() != tensors.keys() or any(trained[key].shape != tensors[key].shape for key in tensors):
                raise AdapterError(f"{path} does not fit the base {location.name}; name the one it was trained on")
            weights[module] = trained
        others = {name: path for name, path in base.others.items() if name != CARD}  # the base's own card
        yield replace(base, others=others), weights


def _write_card(order: Order, folder: Path, file: Path, *, is_model: bool = False) -> None:
    """Write the card and the pictures that it shows."""
    source, pictures = order.source, {}
    images = PICTURES if file.name == CARD else f"{file.stem}-{PICTURES}"
    for index, (prompt, path) in enumerate(source.pictures().items()):
        (folder / images).mkdir(parents=True, exist_ok=True)
        pictures[prompt] = f"{images}/{index}.png"
        shutil.copyfile(path, folder / pictures[prompt])
    is_model = is_model or not source.low_rank
    write_whole(file, card(order.origin, _how(order, is_model), pictures, is_model=is_model).encode())


def _how(order: Order, is_model: bool) -> list[str]:
    """Sentences on what this is and how it is used."""
    source, base = order.source, order.origin.base_name or "Stable Diffusion 1.5"
    if is_model:
        merged = (
            f" with a LoRA merged into it at strength {order.strength:g}" if source.low_rank or source.changes else ""
        )
        return [f"A whole model, made with limner from {base}{merged}; it is used in place of a base."]
    if source.full:
        return [
            f"A LoRA that was trained on top of a full result of {base}, and that result: it works on that one only.",
        ]
    how = "made" if source.folder else "converted"
    what = f"A LoRA for the base {base}, {how} with limner. Its strength is 1 as it was trained."
    if order.form == "kohya":
        where = "Put the file into `models/Lora` of A1111 or Forge, or into `models/loras` of ComfyUI."
    else:
        where = 'In diffusers: `pipeline.load_lora_weights("this folder")`, with PEFT installed.'
    return [what, where]
