"""bf16 weights and remainders are their fp32 master, to the bit."""

from __future__ import annotations

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from limner.kernels.split_weights import join, round_stochastically, split

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=50))
@example([0.0, -0.0, 3.4028234663852886e38, -3.4028234663852886e38, 1e-45, -1e-45, 1.00390625, -1.00390625])
def test_joined_again_every_bit_is_there(values):
    master = torch.tensor(values, dtype=torch.float32)
    weight, remainder = split(master)
    assert torch.equal(join(weight, remainder).view(torch.int32), master.view(torch.int32))


@given(st.lists(finite, min_size=1, max_size=50))
def test_the_weight_is_the_master_rounded_to_the_nearest(values):
    master = torch.tensor(values, dtype=torch.float32)
    weight, _ = split(master)
    assert torch.equal((weight.double() - master.double()).abs(), (master.bfloat16().double() - master.double()).abs())


def test_rounded_stochastically_the_mean_is_the_value():
    halves = torch.arange(65536, dtype=torch.int32)
    for value in (1.001, -0.3337, 1e-20):
        rounded = round_stochastically(torch.full((65536,), value), halves)
        assert len(set(rounded.tolist())) == 2
        assert abs(rounded.double().mean() / torch.tensor(value).double() - 1) < 1e-9
