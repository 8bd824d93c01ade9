"""The gated linear unit of Stable Diffusion's feed-forward layers: h · gelu(gate), in one kernel each way.

Shazeer, "GLU variants improve transformer", 2020, GEGLU; gelu(g) = g Φ(g) exactly (Hendrycks and Gimpel 2016).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.kernels import gelu_gate_avx512
from limner.kernels.available import has_triton


def gelu_gate(x: Tensor) -> Tensor:
    """(…, D) of x (…, 2D), whose first half is h and whose second half is the gate."""
    if has_triton(x):
        return _GeluGate.apply(x)  # type: ignore[return-value]
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and gelu_gate_avx512.has_gate():
        return _HalfGeluGate.apply(x)  # type: ignore[return-value]
    return plain_gelu_gate(x)


def plain_gelu_gate(x: Tensor) -> Tensor:
    """`gelu_gate` in plain torch."""
    h, gate = x.chunk(2, -1)
    return h * functional.gelu(gate)


class _GeluGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from limner.kernels.gelu_gate_triton import gate

        x = x.contiguous()
        ctx.save_for_backward(x)
        return gate(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Tensor:
        from limner.kernels.gelu_gate_triton import gate_backward

        (x,) = ctx.saved_tensors
        return gate_backward(outputs[0].contiguous(), x)


class _HalfGeluGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        return gelu_gate_avx512.gate(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gelu_gate_avx512.gate_backward(outputs[0].contiguous(), x)
