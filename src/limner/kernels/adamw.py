"""AdamW in one pass over the weights: clipping folded in, 8-bit moments, bf16 weights with or without an exact master.

Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, in the order of torch.optim.AdamW:

    w = w (1 - lr wd);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    w = w - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)

Shapes: R rows (variants of a sweep; 1 when training alone) of P numbers, P a multiple of 256 (`rows`), in G parameter
groups (most often 1). Every row has its learning rates, its norm and its count of updates, all on the device: nothing
is read back and nothing branches on what a device computed, so a step can be captured in a CUDA graph. Two forms give
the same numbers: plain torch here, and one Triton kernel (`adamw_triton`) on GPUs that have Triton.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from limner.errors import InputError
from limner.kernels.adamw_numbers import Gradients, Hyperparameters, Moments, RowNumbers
from limner.kernels.available import has_triton
from limner.kernels.eight_bit import BLOCK, decode_first, decode_second, encode_first, encode_second, square_root
from limner.kernels.rounding_bits import rounding_bits, swapped_fraction
from limner.kernels.rows import ScatteredGradients
from limner.kernels.split_weights import join, round_stochastically, split

AT_ONCE = {"cpu": 1 << 16}  # numbers of a row that the plain form takes at a time: a processor's cache holds them
AT_ONCE_ELSEWHERE = 1 << 24


def squared_norms(gradients: Gradients, alive: Tensor | None = None) -> Tensor:
    """Squared norm (R,) of every row, fp32 (fp64 for fp64): sums of chunks, then the sum of those, in a fixed order.

    `alive` as `adamw_step` takes it.
    """
    if has_triton(gradients.addresses if isinstance(gradients, ScatteredGradients) else gradients):
        from limner.kernels.adamw_triton import triton_squared_norms

        return triton_squared_norms(gradients, alive=alive)
    return plain_squared_norms(gradients)


def plain_squared_norms(gradients: Gradients) -> Tensor:
    """`squared_norms` in plain torch."""
    dtype = torch.promote_types(gradients.dtype, torch.float32)
    if isinstance(gradients, ScatteredGradients):
        norms = torch.stack([torch.linalg.vector_norm(part, dtype=dtype) for part in gradients.flat()])
        return norms.square().sum()[None]
    return torch.linalg.vector_norm(gradients, dim=1, dtype=dtype).square()


def adamw_step(
    weight: Tensor,
    gradients: Gradients,
    moments: Moments,
    learning_rates: Tensor,
    updates: Tensor,
    norms: Tensor,
    *,
    hyperparameters: Hyperparameters,
    remainder: Tensor | None = None,
    keys: Tensor | None = None,
    max_norm: float = 0.0,
    gradient_scale: float = 1.0,
    alive: Tensor | None = None,
) -> Tensor:
    """One step in place; returns `applied` (R,) bool: rows whose norm is not finite keep weights, moments and count.

    `weight` (R, P) bf16, fp32 or fp64; `remainder` (R, P) int16 makes a bf16 weight exact (`split_weights`), without
    it bf16 is rounded stochastically. `learning_rates` (R, G), `updates` (R,) int64 made so far, `norms` (R,) the
    squared norms of `gradients`. `keys` (R, 2) int64: Philox keys of the rows' roundings, needed for 8-bit moments
    and for stochastic rounding. A row is clipped to `max_norm` (0: never) as torch.nn.utils.clip_grads_with_norm_
    does, after `gradient_scale`. `alive` (R, chunks of `rows.CHUNK`) uint8 names, for flat gradients, the chunks that
    are not all padding; the kernel passes over the others. On a CPU, fp32 gradients may be scaled in place. Raises
    InputError for what cannot be.
    """
    _require(weight, moments, remainder, keys)
    numbers = row_numbers(
        weight.dtype,
        learning_rates,
        updates,
        norms,
        hyperparameters=hyperparameters,
        max_norm=max_norm,
        gradient_scale=gradient_scale,
    )
    if has_triton(weight) and weight.dtype != torch.float64:
        from limner.kernels.adamw_triton import triton_step

        triton_step(
            weight,
            gradients,
            moments,
            numbers,
            updates,
            hyperparameters=hyperparameters,
            remainder=remainder,
            keys=keys,
            alive=alive,
        )
    elif weight.device.type == "cpu" and weight.dtype == moments.first.dtype:
        _step_of_torch(weight, gradients, moments, numbers, learning_rates, updates, hyperparameters)
    elif weight.device.type == "cpu" and remainder is not None and moments.first_scales is None:
        master = join(weight, remainder)  # torch's own step in fp32, and back: a third of the plain form's time
        _step_of_torch(master, gradients, moments, numbers, learning_rates, updates, hyperparameters)
        for place, value in zip((weight, remainder), split(master), strict=True):
            place.copy_(value)
    else:
        plain_step(
            weight,
            gradients,
            moments,
            numbers,
            updates,
            hyperparameters=hyperparameters,
            remainder=remainder,
            keys=keys,
        )
    updates += numbers.applied
    return numbers.applied


def row_numbers(
    dtype: torch.dtype,
    learning_rates: Tensor,
    updates: Tensor,
    norms: Tensor,
    *,
    hyperparameters: Hyperparameters,
    max_norm: float = 0.0,
    gradient_scale: float = 1.0,
) -> RowNumbers:
    """What every row's step needs, computed in fp64 (fp32 where a device has no fp64) on the device."""
    wide = torch.float32 if learning_rates.device.type == "mps" else torch.float64
    kept = torch.promote_types(dtype, torch.float32)
    norm = norms.to(wide).sqrt() * gradient_scale
    factor = torch.full_like(norm, gradient_scale)
    if max_norm:
        factor = factor * (max_norm / (norm + 1e-6)).clamp_max(1.0)
    count, rate = (updates + 1).to(wide), learning_rates.to(wide)
    decays = [1 - column * decay for column, decay in zip(rate.unbind(1), hyperparameters.weight_decays, strict=True)]
    corrections = [1 - torch.pow(beta, count) for beta in hyperparameters.betas]
    numbers = factor, torch.stack(decays, 1), rate / corrections[0][:, None], corrections[1].rsqrt()
    return RowNumbers(torch.isfinite(norm), *(number.to(kept) for number in numbers))


def plain_step(
    weight: Tensor,
    gradients: Gradients,
    moments: Moments,
    numbers: RowNumbers,
    updates: Tensor,
    *,
    hyperparameters: Hyperparameters,
    remainder: Tensor | None = None,
    keys: Tensor | None = None,
) -> None:
    """The step in plain torch, a piece of the rows at a time; `updates` number the step's roundings."""
    rows = gradients.row() if isinstance(gradients, ScatteredGradients) else gradients
    at_once = AT_ONCE.get(weight.device.type, AT_ONCE_ELSEWHERE)
    for start in range(0, weight.shape[1], at_once):
        part = slice(start, start + at_once)
        halves = rounding_bits(keys, updates, start, weight[:, part].shape[1]) if keys is not None else None
        first, second = _decoded(moments, part)
        master = weight[:, part] if remainder is None else join(weight[:, part], remainder[:, part])
        at_part = _at(numbers, hyperparameters, part)
        updated = _updated(
            master.to(first.dtype), rows[:, part].to(first.dtype), first, second, at_part, hyperparameters
        )
        _store(weight, remainder, moments, part, updated, numbers.applied, halves)


def _at(numbers: RowNumbers, hyperparameters: Hyperparameters, part: slice) -> RowNumbers:
    """The numbers of a part of the rows: those of groups (R, 1), or (R, n) where there are several groups."""
    groups = hyperparameters.groups
    if groups is None:
        return numbers
    decay, step_size = (groups.of_numbers(each, part) for each in (numbers.decay, numbers.step_size))
    return replace(numbers, decay=decay, step_size=step_size)


def _decoded(moments: Moments, part: slice) -> tuple[Tensor, Tensor]:
    if moments.first_scales is None or moments.second_scales is None:
        return moments.first[:, part], moments.second[:, part]
    blocks = slice(part.start // BLOCK, part.stop // BLOCK)
    first = decode_first(moments.first[:, part], moments.first_scales[:, blocks])
    return first, decode_second(moments.second[:, part], moments.second_scales[:, blocks])


def _updated(
    master: Tensor, gradient: Tensor, first: Tensor, second: Tensor, numbers: RowNumbers, settings: Hyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and moments after the step; one operation at a time, as the Triton kernel rounds them."""
    beta1, beta2 = settings.betas
    gradient = gradient * numbers.gradient_factor[:, None]
    first = first * beta1 + gradient * (1 - beta1)
    second = second * beta2 + (gradient * gradient) * (1 - beta2)
    denominator = square_root(second) * numbers.root_factor[:, None] + settings.epsilon
    step = (first / denominator) * numbers.step_size
    return master * numbers.decay - step, first, second


def _store(
    weight: Tensor,
    remainder: Tensor | None,
    moments: Moments,
    part: slice,
    updated: tuple[Tensor, Tensor, Tensor],
    applied: Tensor,
    halves: Tensor | None,
) -> None:
    """Put what `_updated` returned where it belongs, in the rows that are applied."""
    master, first, second = updated
    kept: list[tuple[Tensor, Tensor]] = []
    if moments.first_scales is None or moments.second_scales is None:
        kept += [(moments.first[:, part], first), (moments.second[:, part], second)]
    else:
        assert halves is not None  # `_require` saw the keys
        blocks = slice(part.start // BLOCK, part.stop // BLOCK)
        places = moments.first[:, part], moments.first_scales[:, blocks]
        kept += zip(places, encode_first(first), strict=True)
        places = moments.second[:, part], moments.second_scales[:, blocks]
        kept += zip(places, encode_second(second, swapped_fraction(halves)), strict=True)
    if remainder is not None:
        kept += zip((weight[:, part], remainder[:, part]), split(master), strict=True)
    elif weight.dtype == torch.bfloat16:
        assert halves is not None  # as above
        kept.append((weight[:, part], round_stochastically(master, halves)))
    else:
        kept.append((weight[:, part], master))
    for place, value in kept:
        place.copy_(torch.where(applied[:, None], value, place))


def _step_of_torch(
    weight: Tensor,
    gradients: Gradients,
    moments: Moments,
    numbers: RowNumbers,
    learning_rates: Tensor,
    updates: Tensor,
    hyperparameters: Hyperparameters,
) -> None:
    """torch's own fused AdamW of a CPU, row by row, or tensor by tensor where gradients are scattered."""
    for row in numbers.applied.nonzero().flatten().tolist():
        rows = weight[row], moments.first[row], moments.second[row]
        if isinstance(gradients, ScatteredGradients):
            parts = [gradients.layout.segments(each) for each in rows]
            sources = [gradient.to(weight.dtype) for gradient in gradients.flat()]
        else:
            parts, sources = [[each] for each in rows], [gradients[row].to(weight.dtype)]
        if numbers.gradient_factor[row] != 1:
            torch._foreach_mul_(sources, numbers.gradient_factor[row])
        for group, of_group in _by_group([parts[0], sources, *parts[1:]], gradients, hyperparameters):
            weights, sources_of_group, first, second = of_group
            adamw(
                weights,
                sources_of_group,
                first,
                second,
                [],
                [updates[row].to(torch.float32) for _ in weights],
                fused=True,
                amsgrad=False,
                beta1=hyperparameters.betas[0],
                beta2=hyperparameters.betas[1],
                lr=learning_rates[row, group].item(),
                weight_decay=hyperparameters.weight_decays[group],
                eps=hyperparameters.epsilon,
                maximize=False,
            )


def _by_group(
    lists: list[list[Tensor]], gradients: Gradients, hyperparameters: Hyperparameters
) -> Iterator[tuple[int, list[list[Tensor]]]]:
    """Each group with its part of the lists: its tensors of scattered gradients, else its runs of the row."""
    groups = hyperparameters.groups
    if groups is None:
        yield 0, lists
        return
    scattered = isinstance(gradients, ScatteredGradients)
    of_tensors = groups.of_tensors(gradients.layout) if scattered else []
    for group in range(len(hyperparameters.weight_decays)):
        if scattered:
            chosen = [index for index, each in enumerate(of_tensors) if each == group]
            yield group, [[tensors[index] for index in chosen] for tensors in lists]
        else:
            runs = [slice(first, last) for each, first, last in groups.runs if each == group]
            yield group, [[tensors[0][run] for run in runs] for tensors in lists]


def _require(weight: Tensor, moments: Moments, remainder: Tensor | None, keys: Tensor | None) -> None:
    eight_bit, rounded = moments.first_scales is not None, weight.dtype == torch.bfloat16 and remainder is None
    if weight.dtype not in (torch.bfloat16, torch.float32, torch.float64) or weight.shape[1] % BLOCK:
        raise InputError(
            f"the fused AdamW was given weights {tuple(weight.shape)} {weight.dtype}; it takes rows of bf16, fp32 or "
            f"fp64 numbers, padded to a multiple of {BLOCK}"
        )
    if remainder is not None and weight.dtype != torch.bfloat16:
        raise InputError(f"remainders make bf16 weights exact, and these are {weight.dtype}; pass remainder=None")
    if eight_bit and weight.dtype == torch.float64:
        raise InputError("8-bit moments do not go with fp64 weights; use fp64 moments")
    if (eight_bit or rounded) and keys is None:
        raise InputError("8-bit moments and stochastic rounding need random bits; pass keys (R, 2)")
