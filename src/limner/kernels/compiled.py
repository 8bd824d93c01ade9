"""Kernels in C: compiled by the machine's own compiler when they are first needed, and kept in the user's cache."""

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
HERE = Path(__file__).parent
AVX512 = {  # AVX-512 with bf16: instructions as Linux calls them, and the compiler
    "avx512f": "-mavx512f",
    "avx512bw": "-mavx512bw",
    "avx512dq": "-mavx512dq",
    "avx512vl": "-mavx512vl",
    "avx512_bf16": "-mavx512bf16",
    "fma": "-mfma",
}


def compiled(name: str, *options: str) -> ctypes.CDLL | None:
    """The library that `NAME.c` of this folder makes; None without a compiler that can make it (`CC` names one).

    It lies in the cache under a name that sources, compiler and options give, so a change makes another. Nothing is
    made where the cache cannot be written: a library from a folder that others write to is not to be trusted.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    source = HERE / f"{name}.c"
    command = [compiler, *OPTIONS, *options]
    sources = [path.read_bytes() for path in (source, *sorted(HERE.glob("*.h")))]
    wanted = hashlib.sha256(b"\0".join([*sources, *(part.encode() for part in command)])).hexdigest()
    library = cache_folder() / f"{name}-{wanted[:16]}.so"
    try:
        if not library.exists():
            _compile(command, source, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None


def kernel(name: str, instructions: Mapping[str, str] = AVX512) -> ctypes.CDLL | None:
    """The same for a processor that has the `instructions`; None for another."""
    return compiled(name, *instructions.values()) if processor_flags().issuperset(instructions) else None


def run(library: ctypes.CDLL, work: ctypes.Structure) -> None:
    """Have the library's `run` do the work, on the threads that torch computes with. Raises MemoryError."""
    if library.run(ctypes.byref(work), _openmp(), ctypes.c_uint(torch.get_num_threads())):
        raise MemoryError(f"{library._name}: no memory for its scratch")


@cache
def _openmp() -> ctypes.c_void_p | None:
    """GNU OpenMP's parallel region, of the very library whose threads torch uses: others would fight for the cores."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError):
        return None


def cache_folder() -> Path:
    """Where compiled kernels are kept, after the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "limner" / "kernels"


def _compiler() -> str | None:
    own = os.environ.get("CC", "").split()
    return next((found for name in (*own[:1], *COMPILERS) if (found := shutil.which(name))), None)


def _compile(command: Sequence[str], source: Path, library: Path) -> None:
    """Whole or not at all: several processes may do so at once."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        whole = [*command, "-o", str(made), str(source), "-lm"]
        subprocess.run(whole, check=True, capture_output=True, timeout=COMPILE_SECONDS)
        made.replace(library)
