"""Compiling in parallel: each specialisation once, nothing computed, and nothing left to compile."""

from __future__ import annotations

import pytest
import torch

from limner.kernels.group_norm import group_norm
from limner.kernels.linear import column_sums
from limner.kernels.parallel_compilation import KernelCompiler, compile_in_parallel, current_compiler

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: Triton compiles for one")


def compiled_kernels(*launches):
    compiled = []
    compiler = KernelCompiler(-1)
    for arguments, options in launches:
        compiler.submit(
            "k",
            lambda *argument_types, grid, **settings: compiled.append((argument_types, grid, settings)),
            (1,),
            arguments,
            options,
        )
    compiler.finish()
    return compiled


def test_a_form_is_compiled_once_and_by_its_precision_not_its_numbers():
    x = torch.zeros(32)
    compiled = compiled_kernels(((x, 20), {"B": 2}), ((x + 1, 35), {"B": 2}))
    assert compiled == [((torch.float32, 20), (1,), {"B": 2})]


@pytest.mark.parametrize("other", [
    ((torch.zeros(32, dtype=torch.float16), 20), {"B": 2}), ((torch.zeros(32), 1), {"B": 2}),
    ((torch.zeros(32), 32), {"B": 2}), ((torch.zeros(32), 20), {"B": 4}), ((None, 20), {"B": 2}),
])  # fmt: skip
def test_what_the_code_depends_on_is_a_form_of_its_own(other):
    assert len(compiled_kernels(((torch.zeros(32), 20), {"B": 2}), other)) == 2


def test_tensors_that_begin_between_multiples_of_16_bytes_are_left_to_their_launch():
    assert compiled_kernels(((torch.zeros(32)[1:], 20), {})) == []


def test_a_kernel_that_cannot_be_compiled_does_not_stop_the_others():
    compiler, compiled = KernelCompiler(-1), []

    def fails(*argument_types, grid):
        raise RuntimeError("no such thing")

    compiler.submit("bad", fails, (1,), [], {})
    compiler.submit("good", lambda *argument_types, grid: compiled.append(argument_types), (1,), [], {})
    compiler.finish()
    assert compiled == [()]


def test_the_block_ends_even_where_what_is_in_it_fails():
    seen = []

    def fail():
        with compile_in_parallel(torch.device("cpu")):
            seen.append(current_compiler())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert isinstance(seen[0], KernelCompiler)
    assert current_compiler() is None


@GPU
def test_launches_in_the_block_compute_nothing_and_afterwards_nothing_is_left_to_compile():
    import triton

    hits = []
    x = torch.randn(2, 96, 24, 24, device="cuda").contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.ones(96, device="cuda"), torch.zeros(96, device="cuda")

    def work():
        y = group_norm(x, weight, bias, 32, 1e-5, silu=True)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        return column_sums(gradient.permute(0, 2, 3, 1).reshape(-1, 96))

    triton.knobs.compilation.listener = lambda *, src, cache_hit, **rest: hits.append(src.name)
    try:
        with compile_in_parallel(x.device):
            work()
        ahead = list(hits)
        got = work()
    finally:
        triton.knobs.compilation.listener = None
    assert ahead
    assert hits == ahead
    wanted = torch.nn.functional.silu(torch.nn.functional.group_norm(x, 32, weight, bias, 1e-5))
    (gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(got, gradient.sum((0, 2, 3)), rtol=1e-3, atol=1e-2)
