"""What a layer's tensors in a LoRA file mean, as an exact low-rank update where that can be.

LoRA: h += (alpha / rank) up(down(x)). LoCon (LyCORIS) does the same for convolutions, with a core `mid` between the two
when Tucker-decomposed. LoHa: (w1_a w1_b) ⊙ (w2_a w2_b), which has rank r², factors made by row- and column-wise
Kronecker products (Hyeon-Woo et al. 2022). LoKr: w1 ⊗ w2, of rank rank(w1) rank(w2). Yeh et al., LyCORIS, 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from limner.adapters.low_rank import LowRankUpdate
from limner.errors import AdapterError

Tensors = Mapping[str, Tensor]
ENDINGS = {  # as they are spelt: what they are called here
    "lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "alpha": "alpha",
    "lora_A.weight": "down", "lora_B.weight": "up", "lora_A.default.weight": "down", "lora_B.default.weight": "up",
    "lora.down.weight": "down", "lora.up.weight": "up", "down.weight": "down", "up.weight": "up",
    "lora_linear_layer.down.weight": "down", "lora_linear_layer.up.weight": "up",
    "dora_scale": "magnitude", "lora_magnitude_vector": "magnitude", "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector.default.weight": "magnitude",
    "hada_w1_a": "w1_a", "hada_w1_b": "w1_b", "hada_w2_a": "w2_a", "hada_w2_b": "w2_b", "hada_t1": "t1",
    "hada_t2": "t2",
    "lokr_w1": "k1", "lokr_w2": "k2", "lokr_w1_a": "k1_a", "lokr_w1_b": "k1_b", "lokr_w2_a": "k2_a",
    "lokr_w2_b": "k2_b", "lokr_t2": "t2",
}  # fmt: skip
KNOWN_ENDINGS = tuple(sorted(ENDINGS, key=len, reverse=True))


def as_update(tensors: Tensors, alpha: float | None, kernel_px: int = 0) -> LowRankUpdate:
    """One layer's update, shaped as its layer: a convolution with a `kernel_px`, or a matrix with 0.

    `alpha` is what the file says elsewhere; without any alpha the scale is 1. Raises AdapterError for tensors that do
    not belong together.
    """
    own = tensors.get("alpha")
    alpha = float(own) if own is not None else alpha
    try:
        return _shaped(_MAKERS[form_of(tensors)](tensors, alpha, kernel_px), kernel_px)
    except KeyError as absent:
        raise AdapterError(f"{absent.args[0]} is missing") from None
    except (RuntimeError, IndexError, ValueError) as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise AdapterError(f"its tensors {shapes} do not fit each other ({str(error).splitlines()[0]})") from None


def form_of(tensors: Tensors) -> str:
    """Which form a layer's tensors are."""
    if any(name in tensors for name in ("k1", "k1_a")):
        return "LoKr"
    if "w1_a" in tensors and "w2_a" in tensors:
        return "LoHa"
    return "LoRA"


def _lora(tensors: Tensors, alpha: float | None, kernel_px: int) -> LowRankUpdate:
    down, up = tensors["down"], tensors["up"]
    if "mid" in tensors:  # (r, i, kh, kw) after a 1x1 (i, in): one convolution of the two
        down = torch.einsum("rikl,ij->rjkl", tensors["mid"].float(), down.flatten(1).float()).to(down.dtype)
    rank = down.shape[0]
    if up.shape[1] != rank or down.ndim not in (2, 4) or up.ndim not in (2, 4):
        raise ValueError("ranks differ")
    return LowRankUpdate(down, up, rank if alpha is None else alpha)


def _loha(tensors: Tensors, alpha: float | None, kernel_px: int) -> LowRankUpdate:
    if "t1" in tensors or "t2" in tensors:
        raise ValueError("a LoHa of convolutions with a core is not read")
    first = tensors["w1_a"].float(), tensors["w1_b"].float()
    second = tensors["w2_a"].float(), tensors["w2_b"].float()
    up = (first[0][:, :, None] * second[0][:, None, :]).flatten(1)  # (out, r1 r2)
    down = (first[1][:, None, :] * second[1][None, :, :]).flatten(0, 1)  # (r1 r2, in)
    return _scaled(down, up, 1.0 if alpha is None else alpha / first[1].shape[0])


def _lokr(tensors: Tensors, alpha: float | None, kernel_px: int) -> LowRankUpdate:
    if "t2" in tensors:
        raise ValueError("a LoKr of convolutions with a core is not read")
    first, rank_1 = _factors(tensors, "k1")
    second, rank_2 = _factors(tensors, "k2")
    rank = rank_2 or rank_1  # where both are factored, loaders divide alpha by the second's
    scale = alpha / rank if rank and alpha is not None else 1.0  # two whole factors are not scaled
    (out_1, in_1), (out_2, in_2) = first, second
    if kernel_px:
        down = _kron_of_kernels(in_1, in_2.reshape(in_2.shape[0], -1, kernel_px, kernel_px))
    else:
        down = torch.kron(in_1, in_2)
    return _scaled(down, torch.kron(out_1, out_2), scale)


def _kron_of_kernels(first: Tensor, second: Tensor) -> Tensor:
    """Kronecker product of (a, b) and (c, d, kh, kw): (a c, b d, kh, kw)."""
    product = first[:, None, :, None, None, None] * second[None, :, None]
    return product.reshape(first.shape[0] * second.shape[0], first.shape[1] * second.shape[1], *second.shape[2:])


def _factors(tensors: Tensors, name: str) -> tuple[tuple[Tensor, Tensor], int | None]:
    """A matrix as (out, r) and (r, in), and its rank where it is stored as two; a whole one by its smaller side."""
    if f"{name}_a" in tensors:
        left, right = tensors[f"{name}_a"].float(), tensors[f"{name}_b"].float()
        return (left, right), right.shape[0]
    whole = tensors[name].float()
    if whole.ndim == 2 and whole.shape[1] < whole.shape[0]:
        return (whole, torch.eye(whole.shape[1])), None
    return (torch.eye(whole.shape[0]), whole), None


def _scaled(down: Tensor, up: Tensor, scale: float) -> LowRankUpdate:
    return LowRankUpdate(down, up, scale * down.shape[0])


_MAKERS: dict[str, Callable[[Tensors, float | None, int], LowRankUpdate]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
}


def _shaped(update: LowRankUpdate, kernel_px: int) -> LowRankUpdate:
    """With the dimensions of its layer: files keep convolutions as matrices, and 1x1 ones where there is a matrix."""
    down, up = update.down, update.up
    if kernel_px:
        down = down.reshape(down.shape[0], -1, kernel_px, kernel_px)
        up = up.reshape(*up.shape[:2], 1, 1)
    elif down.ndim == 4:
        down, up = down.reshape(down.shape[:2]), up.reshape(up.shape[:2])
    return LowRankUpdate(down, up, update.alpha)
