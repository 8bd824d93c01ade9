"""Kernels in C: compiled by the machine's C compiler when they are first needed, and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch

from limner.base.devices import processor_flags

COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-std=c11", "-shared", "-fPIC")
COMPILE_SECONDS = 60
FOLDER = Path(__file__).parent
AVX512 = {  # AVX-512 with bf16: Linux's names of the instructions, and the compiler's options
    "avx512f": "-mavx512f",
    "avx512bw": "-mavx512bw",
    "avx512dq": "-mavx512dq",
    "avx512vl": "-mavx512vl",
    "avx512_bf16": "-mavx512bf16",
    "fma": "-mfma",
}


def compiled(name: str, *options: str) -> ctypes.CDLL | None:
    """The library compiled from `NAME.c` of this folder; None without a compiler that can build it (`CC` names one).

    Its name in the cache is a hash of sources, compiler and options, so a change in any of them builds another. It is
    not built where the cache cannot be written: a library from a folder that other users can write to is not safe.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    source = FOLDER / f"{name}.c"
    command = [compiler, *OPTIONS, *options]
    sources = [path.read_bytes() for path in (source, *sorted(FOLDER.glob("*.h")))]
    wanted = hashlib.sha256(b"\0".join([*sources, *(part.encode() for part in command)])).hexdigest()
    library = cache_folder() / f"{name}-{wanted[:16]}.so"
    try:
        if not library.exists():
            _compile(command, source, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None


def kernel(name: str, instructions: Mapping[str, str] = AVX512) -> ctypes.CDLL | None:
    """The same, for a processor that has the `instructions`; None on any other."""
    return compiled(name, *instructions.values()) if processor_flags().issuperset(instructions) else None


def run(library: ctypes.CDLL, work: ctypes.Structure) -> None:
    """Call the library's `run` for the work, on torch's threads. Raises MemoryError."""
    if library.run(ctypes.byref(work), _openmp(), ctypes.c_uint(torch.get_num_threads())):
        raise MemoryError(f"{library._name}: no memory for its scratch buffers")


@cache
def _openmp() -> ctypes.c_void_p | None:
    """GNU OpenMP's parallel region in torch's library: a second set of threads would compete for the cores."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError):
        return None


def cache_folder() -> Path:
    """Where compiled kernels are kept, by the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limner" / "kernels"


def _compiler() -> str | None:
    configured = os.environ.get("CC", "").split()
    return next((path for name in (*configured[:1], *COMPILERS) if (path := shutil.which(name))), None)


def _compile(command: Sequence[str], source: Path, library: Path) -> None:
    """Compile and rename into place, so that several processes may do so at once."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        temporary = Path(folder) / library.name
        full_command = [*command, "-o", str(temporary), str(source), "-lm"]
        subprocess.run(full_command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
        temporary.replace(library)
