"""The AdamW step as one Triton kernel, and the squared norms as another; `adamw` has the plain form and the equations.

Every operation is rounded as plain torch rounds it (no contraction to multiply-adds, IEEE roots and quotients), so
both forms give the same bits. A program takes a chunk: (blocks of 256) x 256 numbers of one row.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from limner.kernels.adamw_numbers import Gradients, Hyperparameters, Moments, RowNumbers
from limner.kernels.eight_bit import BLOCK, FIRST_LEVELS, SECOND_LEVELS, SMALLEST_SCALE
from limner.kernels.launching import kernel
from limner.kernels.rows import CHUNK, ScatteredGradients

PLAIN, EXACT, STOCHASTIC = 0, 1, 2  # fp32 weights; bf16 with remainders; bf16 rounded stochastically
STEP_WARPS, NORM_WARPS = 4, 4
NORM_CHUNKS = 4  # that a program adds up: their loads do not wait for one another
LANES = tl.constexpr(BLOCK)
SIGNED = tl.constexpr(FIRST_LEVELS)
UNSIGNED = tl.constexpr(SECOND_LEVELS)
SIGNED_POWER = tl.constexpr(FIRST_LEVELS**-4)
UNSIGNED_POWER = tl.constexpr(SECOND_LEVELS**-4)
SCALE_FLOOR = tl.constexpr(SMALLEST_SCALE)


def triton_step(
    weight: Tensor,
    gradients: Gradients,
    moments: Moments,
    numbers: RowNumbers,
    updates: Tensor,
    *,
    hyperparameters: Hyperparameters,
    remainder: Tensor | None = None,
    keys: Tensor | None = None,
    alive: Tensor | None = None,
    chunk: int = CHUNK,
    warps: int = STEP_WARPS,
    ieee: bool | None = None,
) -> None:
    """`adamw.plain_step` as one launch; without `ieee`, roots and quotients may be off by their last bits.

    Left out, `ieee` holds where moments are whole. 8-bit ones are bound by arithmetic otherwise: on one H100 983 M
    numbers took 6.6 ms with and 5.2 ms without (2026-11-25). `alive` (R, chunks) of flat gradients says which chunks
    are not all padding.
    """
    rows, length = weight.shape
    form = PLAIN if weight.dtype == torch.float32 else STOCHASTIC if remainder is None else EXACT
    eight_bit = moments.first_scales is not None
    unused = numbers.decay  # stands for tensors that this form does not have
    source, addresses, chunks, count, size = _source(gradients, length, chunk)
    (beta1, beta2), groups = hyperparameters.betas, hyperparameters.groups
    ieee = not eight_bit if ieee is None else ieee
    _step[(count, rows)](
        weight if form == PLAIN else weight.view(torch.int16),
        unused if remainder is None else remainder,
        moments.first,
        moments.second,
        unused if moments.first_scales is None else moments.first_scales,
        unused if moments.second_scales is None else moments.second_scales,
        source,
        addresses,
        chunks,
        numbers.applied,
        numbers.gradient_factor,
        numbers.decay,
        numbers.step_size,
        numbers.root_factor,
        updates,
        updates if keys is None else keys,
        updates if alive is None else alive,
        updates if groups is None else groups.index,
        length,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        hyperparameters.epsilon,
        FORM=form,
        EIGHT_BIT=eight_bit,
        SCATTERED=isinstance(gradients, ScatteredGradients),
        HALF_GRADIENT=_is_half(gradients),
        SPARSE=alive is not None,
        GROUPS=numbers.decay.shape[1],
        IEEE=ieee,
        BLOCKS=size // BLOCK,
        num_warps=warps,
        enable_fp_fusion=not ieee,
    )


def triton_squared_norms(
    gradients: Gradients, *, alive: Tensor | None = None, chunk: int = CHUNK, warps: int = NORM_WARPS
) -> Tensor:
    """`adamw.squared_norms`: sums of a few chunks each, then their sum in fp64, neither with atomics."""
    scattered = isinstance(gradients, ScatteredGradients)
    rows, length = (1, gradients.layout.length) if scattered else gradients.shape
    source, addresses, chunks, count, size = _source(gradients, length, chunk)
    parts = triton.cdiv(count, NORM_CHUNKS)
    sums = torch.empty(rows, parts, dtype=torch.float32, device=addresses.device if scattered else source.device)
    _sums_of_squares[(parts, rows)](
        source,
        addresses,
        chunks,
        sums,
        chunks if alive is None else alive,
        length,
        count,
        SCATTERED=scattered,
        HALF_GRADIENT=_is_half(gradients),
        SPARSE=alive is not None,
        BLOCKS=size // BLOCK,
        CHUNKS=NORM_CHUNKS,
        num_warps=warps,
    )
    return sums.sum(1, dtype=torch.float64).to(torch.float32)


def _source(gradients: Gradients, length: int, chunk: int) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """The kernel's view of gradients: rows, addresses, table of chunks, how many chunks a row has, and their size."""
    if isinstance(gradients, ScatteredGradients):
        table = gradients.chunks
        return table, gradients.addresses, table, table.shape[0], gradients.chunk
    source = gradients.view(torch.int16) if _is_half(gradients) else gradients
    return source, source, source, triton.cdiv(length, chunk), chunk


def _is_half(gradients: Gradients) -> bool:
    return gradients.dtype == torch.bfloat16


@triton.jit
def _load_gradient(
    source,
    addresses,
    chunks,
    chunk,
    row,
    length,
    wanted,
    SCATTERED: tl.constexpr,
    HALF: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """fp32 gradients (BLOCKS, 256) of a chunk, where its segment begins in the rows, and which blocks it has.

    Zeros and no blocks where it is not `wanted`.
    """
    block = tl.arange(0, BLOCKS)[:, None]
    inside = block * LANES + tl.arange(0, LANES)[None, :]
    if SCATTERED:
        entry = chunks + chunk.to(tl.int64) * 4
        begin = tl.multiple_of(tl.load(entry + 2), LANES)
        count = tl.load(entry + 3).to(tl.int32)
        held = (block < (count + LANES - 1) // LANES) & wanted
        address = tl.load(addresses + tl.load(entry))
        pointer = address.to(tl.pointer_type(tl.int16)) if HALF else address.to(tl.pointer_type(tl.float32))
        pointer = tl.multiple_of(pointer, 16) + tl.multiple_of(tl.load(entry + 1), LANES)
        if count % LANES == 0:  # the mask is one of whole blocks, and loads take 16 bytes
            found = tl.load(pointer + inside, mask=held, other=0)
        else:
            found = tl.load(pointer + inside, mask=(inside < count) & wanted, other=0)
    else:
        start = chunk.to(tl.int64) * (BLOCKS * LANES)
        held = (block < (length - start) // LANES) & wanted
        begin = row.to(tl.int64) * length + start
        found = tl.load(source + begin + inside, mask=held, other=0)
    gradient = (found.to(tl.int32) << 16).to(tl.float32, bitcast=True) if HALF else found
    return gradient, begin, held


@kernel()
def _sums_of_squares(
    source,
    addresses,
    chunks,
    sums,
    alive,
    length,
    count,
    SCATTERED: tl.constexpr,
    HALF_GRADIENT: tl.constexpr,
    SPARSE: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    part, row = tl.program_id(0), tl.program_id(1)
    squares = tl.zeros((BLOCKS, LANES), tl.float32)
    for index in tl.static_range(CHUNKS):
        chunk = tl.minimum(part * CHUNKS + index, count - 1)
        wanted = part * CHUNKS + index < count
        if SPARSE:
            wanted = wanted & (tl.load(alive + row.to(tl.int64) * count + chunk) != 0)
        gradient, _, _ = _load_gradient(
            source, addresses, chunks, chunk, row, length, wanted, SCATTERED, HALF_GRADIENT, BLOCKS
        )
        squares += gradient * gradient
    total = tl.sum(tl.sum(squares, axis=1), axis=0)
    tl.store(sums + row.to(tl.int64) * tl.num_programs(0) + part, total)


@triton.jit
def _halves(keys, updates, begin_in_row, row, BLOCKS: tl.constexpr):
    """Random halves (BLOCKS, 256) in [0, 65536): `rounding_bits.rounding_bits`."""
    step = tl.load(updates + row)
    low, high = tl.load(keys + row * 2).to(tl.uint32), tl.load(keys + row * 2 + 1).to(tl.uint32)
    counter = tl.arange(0, BLOCKS)[:, None] * (LANES // 8) + tl.arange(0, LANES // 8)[None, :]
    counter = (begin_in_row // 8 + counter).to(tl.uint32)
    zero = counter * 0
    c0, c1, c2, c3 = tl.random.philox_impl(
        counter, zero, zero + step.to(tl.uint32), zero + (step >> 32).to(tl.uint32), low, high, 10
    )
    words = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), (BLOCKS, LANES // 2))
    halves = tl.reshape(tl.join(words & 0xFFFF, words >> 16), (BLOCKS, LANES))
    return halves.to(tl.int32)


@triton.jit
def _fourth_power(codes):
    numbers = codes.to(tl.float32)
    return (numbers * tl.abs(numbers)) * (numbers * numbers)


@triton.jit
def _root(value, IEEE: tl.constexpr):
    return tl.sqrt_rn(value) if IEEE else tl.sqrt(value)


@triton.jit
def _quotient(dividend, divisor, IEEE: tl.constexpr):
    return tl.div_rn(dividend, divisor) if IEEE else dividend / divisor


@triton.jit
def _fourth_roots(magnitudes, LEVELS: tl.constexpr, IEEE: tl.constexpr):
    """Magnitudes (BLOCKS, 256) companded to [0, LEVELS], and the scales (BLOCKS, 1)."""
    scales = tl.maximum(tl.max(magnitudes, axis=1, keep_dims=True), SCALE_FLOOR)
    factor = tl.div_rn(1.0, tl.sqrt_rn(tl.sqrt_rn(scales))) * LEVELS
    return _root(_root(magnitudes, IEEE), IEEE) * factor, scales


@triton.jit
def _store_coded(
    first,
    second,
    first_scales,
    second_scales,
    places,
    blocks,
    held,
    new_first,
    new_second,
    halves,
    IEEE: tl.constexpr,
):
    """Moments to 8 bits: `eight_bit.encode_first` and `encode_second`."""
    roots, scales = _fourth_roots(tl.abs(new_first), SIGNED, IEEE)
    codes = tl.minimum((roots + 0.5).to(tl.int32), SIGNED)
    tl.store(first + places, tl.where(new_first < 0, -codes, codes).to(tl.int8), mask=held)
    tl.store(first_scales + blocks, scales, mask=held)
    roots, scales = _fourth_roots(new_second, UNSIGNED, IEEE)
    share = (((halves & 0xFF) << 8) | (halves >> 8)).to(tl.float32) * 0.0000152587890625  # 2**-16
    codes = tl.minimum(tl.maximum((roots + share).to(tl.int32), 1), UNSIGNED)
    tl.store(second + places, tl.where(new_second > 0, codes, 0).to(tl.uint8), mask=held)
    tl.store(second_scales + blocks, scales, mask=held)


@triton.jit
def _load_weights(weight, remainder, places, held, FORM: tl.constexpr):
    """fp32 weights: as they are, or `split_weights.join` of bf16 and remainders, or bf16."""
    master = tl.load(weight + places, mask=held, other=0)
    if FORM == 1:
        low = tl.load(remainder + places, mask=held, other=0)
        master = ((master.to(tl.int32) << 16) + low.to(tl.int32)).to(tl.float32, bitcast=True)
    elif FORM == 2:
        master = (master.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return master


@triton.jit
def _numbers_of_groups(groups, begin_in_row, row, held, GROUPS: tl.constexpr, BLOCKS: tl.constexpr):
    """Where a chunk's numbers stand in tables (R, G): one place, or of several groups one a block (BLOCKS, 1)."""
    if GROUPS == 1:
        place = row
    else:
        block = begin_in_row // LANES + tl.arange(0, BLOCKS)[:, None]
        place = row * GROUPS + tl.load(groups + block, mask=held, other=0).to(tl.int32)
    return place


@triton.jit
def _store_weights(weight, remainder, places, held, master, halves, FORM: tl.constexpr):
    """fp32 weights as they are, or `split_weights.split` of them, or `split_weights.round_stochastically`."""
    if FORM == 0:
        tl.store(weight + places, master, mask=held)
    else:
        bits = master.to(tl.int32, bitcast=True)
        new = (bits + (0x8000 if FORM == 1 else halves)) >> 16
        tl.store(weight + places, new.to(tl.int16), mask=held)
        if FORM == 1:
            tl.store(remainder + places, (bits - (new << 16)).to(tl.int16), mask=held)


@kernel()
def _step(
    weight,
    remainder,
    first,
    second,
    first_scales,
    second_scales,
    source,
    addresses,
    chunks,
    applied,
    gradient_factor,
    decay,
    step_size,
    root_factor,
    updates,
    keys,
    alive,
    groups,
    length,
    beta1,
    rest1,
    beta2,
    rest2,
    epsilon,
    FORM: tl.constexpr,
    EIGHT_BIT: tl.constexpr,
    SCATTERED: tl.constexpr,
    HALF_GRADIENT: tl.constexpr,
    SPARSE: tl.constexpr,
    GROUPS: tl.constexpr,
    IEEE: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    chunk, row = tl.program_id(0), tl.program_id(1)
    if tl.load(applied + row) == 0:
        return
    if SPARSE:
        if tl.load(alive + row.to(tl.int64) * tl.num_programs(0) + chunk) == 0:
            return
    gradient, begin, held = _load_gradient(
        source, addresses, chunks, chunk, row, length, True, SCATTERED, HALF_GRADIENT, BLOCKS
    )
    places = begin + tl.arange(0, BLOCKS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    blocks = begin // LANES + tl.arange(0, BLOCKS)[:, None]

    old_first = tl.load(first + places, mask=held, other=0)
    old_second = tl.load(second + places, mask=held, other=0)
    if EIGHT_BIT:
        old_first = _fourth_power(old_first) * (tl.load(first_scales + blocks, mask=held, other=0.0) * SIGNED_POWER)
        old_second = _fourth_power(old_second) * (
            tl.load(second_scales + blocks, mask=held, other=0.0) * UNSIGNED_POWER
        )
    master = _load_weights(weight, remainder, places, held, FORM)

    gradient = gradient * tl.load(gradient_factor + row)
    new_first = old_first * beta1 + gradient * rest1
    new_second = old_second * beta2 + (gradient * gradient) * rest2
    denominator = _root(new_second, IEEE) * tl.load(root_factor + row) + epsilon
    begin_in_row = begin - row.to(tl.int64) * length
    number = _numbers_of_groups(groups, begin_in_row, row, held, GROUPS, BLOCKS)
    master = master * tl.load(decay + number) - _quotient(new_first, denominator, IEEE) * tl.load(step_size + number)

    halves = _halves(keys, updates, begin_in_row, row, BLOCKS) if EIGHT_BIT or FORM == 2 else 0
    if EIGHT_BIT:
        _store_coded(
            first, second, first_scales, second_scales, places, blocks, held, new_first, new_second, halves, IEEE
        )
    else:
        tl.store(first + places, new_first, mask=held)
        tl.store(second + places, new_second, mask=held)
    _store_weights(weight, remainder, places, held, master, halves, FORM)
