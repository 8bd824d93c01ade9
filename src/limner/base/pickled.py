"""Torch checkpoints (.ckpt, .bin, .pt) converted to .safetensors files by a confined child process.

The child reads with torch's `weights_only=True`, which builds nothing but tensors and plain containers, and has
limits of memory, time and file size, since that reader has had flaws (CVE-2025-32434, CVE-2026-24747).
Run as `python -m limner.base.pickled SOURCE DESTINATION`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from limner.base.inspect.pickles import read_pickled
from limner.errors import BaseError

EXTRA_BYTES = 4 * 2**30  # for torch itself, on top of the file's contents
SECONDS, BYTES_PER_SECOND = 120, 20 * 2**20
MOST_TENSORS = 100_000
PREFIX = "limner: "


def convert_pickle(source: Path, destination: Path) -> None:
    """Write the tensors of a checkpoint as a .safetensors file.

    Raises BaseError for damaged files, for pickles that call more than tensors need, and beyond the limits.
    """
    pickle = read_pickled(source)
    if pickle.unexpected_calls:
        raise BaseError(
            f"{source} would call {', '.join(pickle.unexpected_calls[:3])}, which no weights need; it was not read"
        )
    seconds = SECONDS + source.stat().st_size // BYTES_PER_SECOND
    command = [sys.executable, "-m", "limner.base.pickled", str(source), str(destination)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise BaseError(f"{source} was not read within {seconds} seconds, which no undamaged file takes") from None
    if done.returncode != 0 or not destination.is_file():
        said = [line.removeprefix(PREFIX) for line in done.stderr.splitlines() if line.startswith(PREFIX)]
        why = said[-1] if said else f"the process that read it was ended (code {done.returncode})"
        raise BaseError(f"{source} cannot be read as weights: {why}")


def _limit(size_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the timeout holds there too
        return
    limits = {
        resource.RLIMIT_DATA: EXTRA_BYTES + 3 * size_bytes,
        resource.RLIMIT_CPU: SECONDS + size_bytes // BYTES_PER_SECOND,
        resource.RLIMIT_FSIZE: 2 * size_bytes + 2**20,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _tensors_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Tensors by name: of the mapping itself, or of the one under "state_dict" that trainers nest them in."""
    import torch

    nested = value.get("state_dict", value) if isinstance(value, dict) else {}
    for name, tensor in nested.items():
        if isinstance(name, str) and isinstance(tensor, torch.Tensor):
            yield name, tensor


def _rewrite(source: Path, destination: Path) -> None:
    import zipfile

    import torch

    from limner.base.weights.streaming import from_tensor, write_tensors

    loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    tensors = dict(_tensors_in(loaded))
    if not tensors or len(tensors) > MOST_TENSORS:
        raise ValueError(f"it holds {len(tensors)} tensors")
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()) > source.stat().st_size + 2**20:
        raise ValueError("its tensors are larger than the file: they repeat their storage")
    new_tensors = {
        name: from_tensor(tensor.dtype, tuple(tensor.shape), lambda tensor=tensor: tensor)
        for name, tensor in tensors.items()
    }
    write_tensors(destination, new_tensors, {})


def _main(source: Path, destination: Path) -> int:
    _limit(source.stat().st_size)
    try:
        _rewrite(source, destination)
    except Exception as error:  # the parent reports any error in one line
        print(PREFIX + (str(error).strip().splitlines() or [type(error).__name__])[0][:300], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
