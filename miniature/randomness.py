"""Every random draw is seeded from (seed, purpose, index)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed that depends on all three parts and on nothing else."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """NumPy's generator for one (seed, purpose, index)."""
    return np.random.default_rng(seed_for(seed, purpose, index))


def torch_generator(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """PyTorch's generator for one (seed, purpose, index)."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_for(seed, purpose, index))
