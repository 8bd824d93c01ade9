"""What a layer's tensors in a LoRA file mean, as an exact low-rank update where that can be.

LoRA: h += (alpha / rank) up(down(x)). LoCon (LyCORIS) does the same for convolutions, with a core `mid` between the two
when Tucker-decomposed. LoHa: (w1_a w1_b) ⊙ (w2_a w2_b), which has rank r², factors made by row- and column-wise
Kronecker products (Hyeon-Woo et al. 2022). LoKr: w1 ⊗ w2, of rank rank(w1) rank(w2). Both have a core t (r, r, kh, kw)
for convolutions when Tucker-decomposed: w = Σ_ij t_ij a_i ⊗ b_j, a (r, out), b (r, in). Yeh et al., LyCORIS, 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from limner.adapters.exchange.changes import Change, Difference, Rescaled, Rotation
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
    "diff": "difference", "diff_b": "bias", "w_norm": "difference", "b_norm": "bias", "oft_blocks": "blocks",
    "rescale": "rescale",
}  # fmt: skip
UNREAD = {  # endings of what is not read, and what it is called
    "oft_diag": "an OFT of LyCORIS' first version", "oft_R.weight": "an OFT of PEFT",
    "oft_R.default.weight": "an OFT of PEFT", "oft_r": "an OFT of PEFT", "a1.weight": "a GLoRA",
    "a2.weight": "a GLoRA", "b1.weight": "a GLoRA", "b2.weight": "a GLoRA", "on_input": "an IA3",
    "hada_w1": "a LoHa with whole factors", "bora_scale": "a BoRA",
}  # fmt: skip
NORM_ENDINGS = ("difference", "bias")  # what norms can have too
KNOWN_ENDINGS = tuple(sorted(ENDINGS, key=len, reverse=True))


def as_update(tensors: Tensors, alpha: float | None, kernel_px: int = 0) -> LowRankUpdate:
    """One layer's update, shaped as its layer: a convolution with a `kernel_px`, or a matrix with 0.

    `alpha` is what the file says elsewhere; without any alpha the scale is 1. Raises AdapterError for tensors that do
    not belong together.
    """
    stored_alpha = tensors.get("alpha")
    alpha = float(stored_alpha) if stored_alpha is not None else alpha
    try:
        return _shaped(_MAKERS[form_of(tensors)](tensors, alpha, kernel_px), kernel_px)
    except KeyError as absent:
        raise AdapterError(f"{absent.args[0]} is missing") from None
    except (RuntimeError, IndexError, ValueError) as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise AdapterError(f"its tensors {shapes} do not fit each other ({str(error).splitlines()[0]})") from None


def changes_of(tensors: Tensors, update: LowRankUpdate | None) -> dict[str, Change]:
    """What a layer's tensors do that can only be merged, by "weight" and "bias"; `update` is a DoRA's.

    Raises AdapterError for tensors that do not belong together, and for BOFT.
    """
    changes: dict[str, Change] = {}
    if "bias" in tensors:
        changes["bias"] = Difference(tensors["bias"])
    if "magnitude" in tensors and update is not None:
        changes["weight"] = Rescaled(update, tensors["magnitude"])
    if "blocks" in tensors:
        changes["weight"] = _rotation(tensors)
    if "difference" in tensors:
        changes["weight"] = Difference(tensors["difference"])
    kinds = [name for name in ("magnitude", "blocks", "difference") if name in tensors]
    if len(kinds) > 1 or (update is not None and kinds not in ([], ["magnitude"])):
        raise AdapterError(f"it has {', '.join(sorted(tensors))} at once")
    return changes


def has_update(tensors: Tensors) -> bool:
    """Whether a layer's tensors have a low-rank update among them."""
    return bool(tensors.keys() - {"alpha", "difference", "bias", "blocks", "rescale"})


def _rotation(tensors: Tensors) -> Rotation:
    blocks = tensors["blocks"]
    if blocks.ndim == 4:
        raise AdapterError("it is a BOFT, which is not read; merge it with the program that made it")
    if blocks.ndim != 3 or blocks.shape[1] != blocks.shape[2]:
        raise AdapterError(f"its oft_blocks are of shape {tuple(blocks.shape)}, not (blocks, rows, rows)")
    constraint = tensors.get("alpha")
    return Rotation(blocks, 0.0 if constraint is None else float(constraint), tensors.get("rescale"))


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
    first, _ = _factors(tensors, "w1", "t1" if "t1" in tensors else "")
    second, _ = _factors(tensors, "w2", "t2" if "t1" in tensors else "")
    up = (first[0][:, :, None] * second[0][:, None, :]).flatten(1)  # (out, r1 r2)
    down = (first[1][:, None] * second[1][None]).flatten(0, 1)  # (r1 r2, in, …)
    return _scaled(down, up, 1.0 if alpha is None else alpha / tensors["w1_b"].shape[0])


def _lokr(tensors: Tensors, alpha: float | None, kernel_px: int) -> LowRankUpdate:
    first, rank_1 = _factors(tensors, "k1")
    second, rank_2 = _factors(tensors, "k2", "t2" if "t2" in tensors else "")
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


def _factors(tensors: Tensors, name: str, core: str = "") -> tuple[tuple[Tensor, Tensor], int | None]:
    """A matrix as (out, r) and (r, in, …), and its rank where it is stored as two; a whole one by its smaller side.

    With a `core` (r, r, kh, kw) between them the two lie the other way round: (r, out) and (r, in).
    """
    if core or f"{name}_a" in tensors:
        left, right = tensors[f"{name}_a"].float(), tensors[f"{name}_b"].float()
        if core:
            left, right = left.T.contiguous(), torch.einsum("ijkl,jr->irkl", tensors[core].float(), right)
        return (left, right), tensors[f"{name}_b"].shape[0]
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
