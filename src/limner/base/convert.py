"""`limner convert`: a single file of the original layout to a diffusers folder, and back; tensor by tensor."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from limner.artifacts import require_absent, require_space, whole_folder
from limner.artifacts.disk import TEMPORARY_PREFIX
from limner.base.inspect import inspect
from limner.base.inspect.folders import weight_files
from limner.base.pickled import convert_pickle
from limner.base.single_file.names import WEIGHT_PARTS
from limner.base.single_file.opening import open_base
from limner.base.single_file.parts import ModelParts
from limner.base.single_file.writing import fill_folder, write_single_file
from limner.base.weights.kinds import kind_of
from limner.base.weights.streaming import NewTensor, TensorFile, write_tensors
from limner.errors import BaseError

FILE_SUFFIX = ".safetensors"


def convert(
    source: Path,
    destination: Path,
    *,
    dtype: torch.dtype | None = None,
    vae: Path | None = None,
    ema: bool = False,
    allow_pickle: bool = False,
) -> None:
    """Write the SD 1.5 base at `source` as a single file (DESTINATION.safetensors) or as a diffusers folder.

    `dtype` None keeps the precision of every weight, bit for bit. `vae` replaces the base's VAE. A pickle is read only
    with `allow_pickle`, in a separate process; one that is not a base is rewritten as a .safetensors file.
    Raises BaseError for anything but a complete SD 1.5 base, DiskError where `destination` exists; nothing is written
    then.
    """
    require_absent(destination)
    with contextlib.ExitStack() as opened:
        readable = opened.enter_context(_without_pickle(source, allow_pickle, destination.parent))
        if readable != source and destination.suffix == FILE_SUFFIX and inspect(readable).family != "sd15":
            _rewrite(opened.enter_context(TensorFile(readable)), destination)
            return
        source = readable
        base = open_base(source, opened, vae=vae, ema=ema)
        _require_room(destination, base.parts, dtype)
        if destination.suffix == FILE_SUFFIX:
            prefix = base.parts.text_prefix
            write_single_file(destination, base.parts.tensors, base.configuration, dtype, base.metadata, prefix)
        else:
            with whole_folder(destination) as folder:
                prefix = base.parts.text_prefix
                fill_folder(folder, base.parts.tensors, base.configuration, dtype, prefix, base.others)


def _require_room(destination: Path, parts: ModelParts, dtype: torch.dtype | None) -> None:
    tensors = [tensor for part in parts.tensors.values() for tensor in part.values()]
    require_space(destination, sum(tensor.written(tensor.shape, dtype).size_bytes for tensor in tensors))


def _rewrite(file: TensorFile, destination: Path) -> None:
    """Write a LoRA or an embedding that was a pickle, with its names and precision."""
    tensors = {
        name: NewTensor(entry.dtype, entry.shape, partial(file.pieces, name))
        for name, entry in file.header.tensors.items()
    }
    write_tensors(destination, tensors, {})


@contextlib.contextmanager
def _without_pickle(source: Path, allow_pickle: bool, parent: Path) -> Iterator[Path]:
    """`source`, or a temporary copy of it in which every pickle has become a .safetensors file."""
    pickles = _pickles(source)
    if not pickles:
        yield source
        return
    if not allow_pickle:
        raise BaseError(f"{pickles[0]} is a pickle, which can run code when it is read; --allow-pickle reads it safely")
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=parent) as folder:
        converted = Path(folder) / source.name
        if source.is_file():
            converted = converted.with_suffix(FILE_SUFFIX)
            convert_pickle(source, converted)
        else:
            shutil.copytree(source, converted, ignore=shutil.ignore_patterns("*.bin", ".*"))
            for path in pickles:
                copy = converted / path.relative_to(source)
                convert_pickle(path, copy.with_suffix(FILE_SUFFIX))
        yield converted


def _pickles(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if kind_of(source).kind in ("zip", "pickle") else []
    files = [path for part in WEIGHT_PARTS for path in weight_files(source / part)]
    return [path for path in files if path.suffix == ".bin"]
