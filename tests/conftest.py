"""A tiny random Stable Diffusion in SD 1.5's topology, drawn photos, and nothing from outside."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from limner.base import Base, find_base, load_base
from tests.drawn import write_photos
from tests.tiny import write_tiny_base


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)  # tiny models are many times slower with two on a busy machine


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Python's handler for Ctrl-C, which is missing where SIGINT is inherited as ignored (a background job)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_amx() -> Iterator[None]:
    """Have every processor train in fp32 alone: what a test compares must not depend on where it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.base.devices.bf16_instructions", dict)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_timings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep how long tiny studies take out of what this machine remembers, and a plan from what it remembers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of random weights: 64x64 pictures, 8x8 latents, a controlnet and a limner.json."""
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def tiny_base(tiny_folder: Path) -> Base:
    """The tiny base, loaded in fp32 on the CPU; fresh for every test."""
    return load_base(find_base(str(tiny_folder)))


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Five drawn pictures of one subject, of different sizes and shapes."""
    return write_photos(tmp_path / "photos")
