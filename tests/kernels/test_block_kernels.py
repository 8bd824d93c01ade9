"""The kernels of Stable Diffusion's blocks against their plain forms, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from limner.diffusion.randomness import random_words
from limner.diffusion.streams import Streams
from limner.kernels.attention import attention, plain_attention
from limner.kernels.available import has_triton
from limner.kernels.convolution import convolution
from limner.kernels.gelu_gate import gelu_gate, plain_gelu_gate
from limner.kernels.group_norm import group_norm, plain_group_norm
from limner.kernels.layer_norm import add_layer_norm, layer_norm, plain_add_layer_norm
from limner.kernels.linear import column_sums, joint_linear
from limner.kernels.quick_gelu import plain_quick_gelu, quick_gelu
from limner.kernels.residual import add_bias, plain_add_bias

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    not has_triton(torch.zeros(1, device=DEVICE)), reason="needs Triton and a GPU, or TRITON_INTERPRET=1"
)


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def agree(fused, plain, inputs):
    """Outputs and gradients of two functions of the same inputs, within fp32's rounding."""
    found, wanted = fused(*inputs), plain(*inputs)
    found, wanted = (each if isinstance(each, tuple) else (each,) for each in (found, wanted))
    probes = [numbers(90 + index, *each.shape) for index, each in enumerate(wanted)]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    gradients = [
        torch.autograd.grad(sum((each * probe).sum() for each, probe in zip(outputs, probes, strict=True)), inputs)
        for outputs in (found, wanted)
    ]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(("batch", "channels", "side", "groups"), [(2, 64, 8, 8), (1, 96, 5, 16), (3, 320, 4, 32)])
def test_group_norm(batch, channels, side, groups, shifted, silu, whole, monkeypatch):
    from limner.kernels import group_norm_whole_triton

    monkeypatch.setattr(group_norm_whole_triton, "LARGEST", 1 << 22 if whole else 0)
    x = (numbers(0, batch, channels, side, side) * 2 + 1).contiguous(memory_format=torch.channels_last)
    inputs = [x, numbers(1, channels), numbers(2, channels)] + ([numbers(3, batch, channels)] if shifted else [])
    inputs = [each.requires_grad_() for each in inputs]

    def of(form):
        return lambda x, w, b, s=None: form(x, w, b, groups, 1e-5, silu=silu, shift=s)

    agree(of(group_norm), of(plain_group_norm), inputs)


def test_group_norm_of_more_positions_than_a_program_takes_at_once(monkeypatch):
    from limner.kernels import group_norm_triton

    monkeypatch.setattr(group_norm_triton, "PROGRAMS", 2)  # one program a picture: three tiles, the last one cut
    test_group_norm(2, 64, 9, 8, shifted=True, silu=True, whole=False, monkeypatch=monkeypatch)


@pytest.mark.parametrize(("batch", "channels", "side"), [(2, 64, 8), (1, 72, 3), (2, 130, 9)])
@pytest.mark.parametrize("summed", [True, False])
def test_add_bias(batch, channels, side, summed):
    shape = (batch, channels, side, side)
    x, residual = (numbers(seed, *shape).contiguous(memory_format=torch.channels_last) for seed in (0, 1))
    inputs = [x, numbers(2, channels)] + ([residual] if summed else [])
    agree(add_bias, plain_add_bias, [each.requires_grad_() for each in inputs])


def test_add_bias_to_a_sum_of_two_orders_and_precisions():
    x = numbers(0, 2, 16, 4, 4).half().contiguous(memory_format=torch.channels_last)
    bias, residual = numbers(1, 16).half(), numbers(2, 2, 16, 4, 4)
    found = add_bias(x, bias, residual)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, x.float() + bias.float()[:, None, None] + residual, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 7, 2 * 1280)])
def test_gelu_gate(shape):
    agree(gelu_gate, plain_gelu_gate, [numbers(0, *shape).mul(2).requires_grad_()])


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 7, 3072)])
def test_quick_gelu(shape):
    agree(quick_gelu, plain_quick_gelu, [numbers(0, *shape).mul(4).requires_grad_()])


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 300, 96)])
def test_add_layer_norm(shape):
    channels = shape[-1]
    rows = [numbers(seed, *shape).requires_grad_() for seed in (0, 1)]
    own = [numbers(seed, channels).requires_grad_() for seed in (2, 3)]
    agree(lambda *a: add_layer_norm(*a, 1e-5), lambda *a: plain_add_layer_norm(*a, 1e-5), rows + own)


@pytest.mark.parametrize("shape", [(2, 5, 64), (1, 33, 320)])
def test_layer_norm_alone(shape):
    inputs = [(numbers(0, *shape) * 2 + 1).requires_grad_()]
    inputs += [numbers(2 + index, shape[-1]).requires_grad_() for index in range(2)]
    agree(lambda *a: layer_norm(*a, 1e-5), lambda x, w, b: functional.layer_norm(x, w.shape, w, b, 1e-5), inputs)


def test_add_layer_norm_of_more_rows_than_its_programs_take_at_once(monkeypatch):
    from limner.kernels import layer_norm_triton

    monkeypatch.setattr(layer_norm_triton, "PARTS", 2)  # of 16 rows each: ten turns, the last one cut
    test_add_layer_norm((1, 300, 96))


def test_the_bias_of_a_later_layer_is_in_the_sum_alone():
    x, residual, weight, bias, later = (numbers(seed, *shape) for seed, shape in enumerate([(5, 40)] * 2 + [(40,)] * 3))
    total, normalised = plain_add_layer_norm(x, residual, weight, bias, 1e-5)
    found = add_layer_norm(x, residual, weight, bias, 1e-5, later=later)
    assert torch.allclose(found[0], total + later, rtol=1e-5, atol=1e-6)
    assert torch.allclose(found[1], normalised, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_near_full_precision(dtype):
    x = (numbers(0, 2, 64, 8, 8) * 2 + 1).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = numbers(1, 64).to(dtype), numbers(2, 64).to(dtype)
    found = group_norm(x, weight, bias, 8, 1e-5, silu=True)
    wanted = plain_group_norm(x.float(), weight.float(), bias.float(), 8, 1e-5, silu=True)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), wanted, rtol=0.02, atol=0.02)
    for unit, plain_unit in ((gelu_gate, plain_gelu_gate), (quick_gelu, plain_quick_gelu)):
        found = unit(x.flatten(1))
        assert found.dtype == dtype
        assert torch.allclose(found.float(), plain_unit(x.flatten(1).float()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", [(2, 300, 40), (5, 64), (2, 77, 130), (3, 700, 130)])
def test_sums_of_columns(shape):
    rows = numbers(0, *shape)
    assert torch.allclose(column_sums(rows), rows.reshape(-1, shape[-1]).sum(0), rtol=1e-5, atol=1e-4)
    assert torch.equal(column_sums(rows), column_sums(rows))
    half = rows.bfloat16()
    assert column_sums(half).dtype == torch.bfloat16
    wanted = half.float().reshape(-1, shape[-1]).sum(0)
    assert torch.allclose(column_sums(half).float(), wanted, rtol=2**-7, atol=1e-4)  # the interpreter cuts bits off


def test_a_layer_that_learns():
    x, weight, bias = (numbers(seed, *shape) for seed, shape in enumerate([(2, 3, 16), (24, 16), (24,)]))
    inputs = [each.requires_grad_() for each in (x, weight, bias)]
    agree(lambda x, w, b: joint_linear(x, [w], [b]), torch.nn.functional.linear, inputs)


@pytest.mark.parametrize("side_by_side", [True, False])
def test_layers_that_learn_jointly(side_by_side):
    """Their biases may lie apart, and each weight and bias has its own gradient."""
    x, joint, biases = numbers(0, 2, 3, 16), numbers(1, 3 * 24, 16), numbers(2, 3 * 24)
    apart = [each.clone() for each in biases.chunk(3)]
    parts = [*joint.chunk(3), *(biases.chunk(3) if side_by_side else apart)]
    inputs = [x.requires_grad_(), *(part.detach().requires_grad_() for part in parts)]

    def one_by_one(x, *own):
        return torch.cat([torch.nn.functional.linear(x, w, b) for w, b in zip(own[:3], own[3:], strict=True)], -1)

    agree(lambda x, *own: joint_linear(x, own[:3], own[3:]), one_by_one, inputs)


def test_a_layer_that_learns_under_autocast():
    inputs = [numbers(seed, *shape).requires_grad_() for seed, shape in enumerate([(2, 3, 16), (24, 16), (24,)])]
    gradients = []
    for form in (lambda x, w, b: joint_linear(x, [w], [b]), torch.nn.functional.linear):
        with torch.autocast(DEVICE, torch.float16):
            y = form(*inputs)
        assert y.dtype == torch.float16
        gradients.append(torch.autograd.grad((y.float() * numbers(3, *y.shape)).sum(), inputs))
    for one, other in zip(*gradients, strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one, other, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("count", [1, 6, 1030])
def test_words_of_many_streams_are_those_of_each(count):
    streams, index = [(7, "noise"), (1 << 40, "timesteps")], [3, (1 << 35) + 5]
    found = Streams(streams, DEVICE).words(torch.tensor(index, device=DEVICE), count)
    for row, ((seed, purpose), place) in enumerate(zip(streams, index, strict=True)):
        assert torch.equal(found[row].cpu(), random_words(seed, purpose, place, count))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("batch", "tokens", "keys", "heads", "width"), [(2, 150, 77, 2, 40), (1, 77, 77, 3, 16)])
def test_attention_to_few_keys(batch, tokens, keys, heads, width, causal):
    if causal and tokens != keys:
        pytest.skip("a token attends to what came before it among the same tokens")
    query = numbers(0, batch, tokens, heads * width).requires_grad_()
    both = numbers(1, batch, keys, 2 * heads * width).requires_grad_()

    def of(form):
        return lambda query, both: form(query, *both.chunk(2, -1), heads, causal=causal)

    agree(of(attention), of(plain_attention), [query, both])


def test_a_convolution_that_learns():
    layer = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1).to(DEVICE)
    x = numbers(0, 2, 6, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()

    def plainly(*_):
        return torch.nn.functional.conv2d(x, layer.weight, stride=2, padding=1)

    agree(lambda *_: convolution(layer, x), plainly, [x, layer.weight])
