"""Whether a tensor's device runs Triton kernels."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from torch import Tensor

OLDEST_CAPABILITY = 7  # Volta, the oldest that Triton supports


def has_triton(tensor: Tensor) -> bool:
    """Whether Triton kernels run on the tensor's device; under Triton's interpreter they run on a CPU, for tests."""
    if tensor.device.type == "cpu":
        return os.environ.get("TRITON_INTERPRET") == "1" and _installed()
    return tensor.is_cuda and _installed() and _capable(tensor.device.index or 0)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _capable(index: int) -> bool:
    import torch

    return torch.version.hip is not None or torch.cuda.get_device_capability(index)[0] >= OLDEST_CAPABILITY
