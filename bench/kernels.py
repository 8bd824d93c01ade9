"""Where the GPU's time goes: kernels by kind."""

from __future__ import annotations

import re
from typing import Any

KINDS = (
    ("attention", r"flash|fmha|attention|sdpa|softmax|^_attend"),
    ("optimizer and clipping", r"adam|multi_tensor|clip|l2norm|lpnorm|foreach|^_step|^_sums_of_squares"),
    ("gated unit", r"^_gate"),
    ("group norm", r"group_?norm|rowwisemoments|^_(sums|coefficients|apply)"),
    ("layer norm", r"layer_?norm|gamma_?beta|^_add_and_normalise|^_backward"),
    ("copies and casts", r"memcpy|memset|copy|cast|nchwtonhwc|nhwctonchw|transpose|cat"),
    ("convolutions", r"conv|fprop|dgrad|wgrad|implicit|winograd"),
    ("matrix products", r"gemm|nvjet|cutlass|cublas|matmul|splitk|gemv|_mm"),
    ("reductions", r"reduce|^_(column_sums|sum_parts)"),
    ("random numbers", r"philox|random|distribution|^_words"),
    ("element-wise", r"elementwise|vectorized|silu|gelu|fill|index|gather|scatter|where|triton|^_sum_with_bias"),
)
"""Each kernel belongs to the first kind whose pattern its name meets, capital letters or not.

Names that begin with `_` are those of limner's own kernels.
"""


def kind_of(kernel: str) -> str:
    """The kind of a kernel, by its name."""
    name = kernel.lower()
    return next((kind for kind, pattern in KINDS if re.search(pattern, name)), "other")


def gpu_profiler() -> Any:
    """A profiler of the GPU's kernels alone; None where there is no GPU."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CUDA]) if torch.cuda.is_available() else None


def kernel_split(profiler: Any, units: int) -> dict[str, float]:
    """GPU milliseconds a unit by kind, the longest first."""
    kinds: dict[str, float] = {}
    for entry in profiler.key_averages():
        milliseconds = entry.self_device_time_total / 1000 / units
        if milliseconds > 0:
            kind = kind_of(entry.key)
            kinds[kind] = kinds.get(kind, 0.0) + milliseconds
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))
