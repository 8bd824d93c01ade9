"""Attention by AMX tiles equals the equation, whatever the shapes; and how C is compiled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.kernels import compiled
from limner.kernels.attention import attention
from limner.kernels.attention_amx import attend, attend_backward, has_tiles

on_tiles = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX and a C compiler")


def by_equation(query, key, value, heads):
    """softmax(q k' / √d) v in fp64."""
    q, k, v = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    return ((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def distance(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


def drawn(batch, queries, keys, heads, width, spread=1.0):
    generator = torch.Generator().manual_seed(queries * 1000 + keys)

    def numbers(tokens):
        return (spread * torch.randn(batch, tokens, heads * width, generator=generator)).to(torch.bfloat16)

    return numbers(queries), numbers(keys), numbers(keys), numbers(queries)


@on_tiles
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2), st.integers(1, 70), st.integers(1, 70), st.integers(1, 3), st.integers(1, 12))
def test_it_and_its_gradients_are_those_of_the_equation(batch, queries, keys, heads, eights):
    query, key, value, d_attended = drawn(batch, queries, keys, heads, 8 * eights)
    attended, sums = attend(query, key, value, heads)
    found = attend_backward(d_attended, query, key, value, attended, sums, heads)
    exact = [each.double().requires_grad_() for each in (query, key, value)]
    wanted = by_equation(*exact, heads)
    assert distance(attended, wanted.detach()) < 0.004
    gradients = torch.autograd.grad(wanted, exact, d_attended.double())
    size = float(d_attended.double().norm())  # what rounding is measured by where a gradient is 0, as with one key
    for own, gradient in zip(found, gradients, strict=True):
        assert float((own.double() - gradient).norm()) < 0.008 * (float(gradient.norm()) + size)


@on_tiles
def test_large_scores_neither_overflow_nor_lose_the_sum():
    query, key, value, _ = drawn(1, 40, 40, 2, 16, spread=40.0)
    attended, sums = attend(query, key, value, 2)
    assert torch.isfinite(attended).all()
    assert torch.isfinite(sums).all()
    assert distance(attended, by_equation(query.double(), key.double(), value.double(), 2)) < 0.01


@on_tiles
def test_rows_within_wider_rows_are_read_where_they_lie_and_threads_change_nothing():
    joint = drawn(2, 64, 64, 4, 48)[0]
    query, key, value = joint.chunk(3, 2)
    apart = [each.contiguous() for each in (query, key, value)]
    threads = torch.get_num_threads()
    try:
        found = []
        for count, given_ in ((1, (query, key, value)), (2, (query, key, value)), (1, apart)):
            torch.set_num_threads(count)
            attended, sums = attend(*given_, 4)
            found.append([attended, *attend_backward(attended, *given_, attended, sums, 4)])
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(own, other) for own, other in zip(found[0], others, strict=True))


@on_tiles
def test_attention_in_bf16_takes_it_and_learns_through_it():
    query, key, value, d_attended = drawn(1, 64, 48, 2, 16)
    for each in (query, key, value):
        each.requires_grad_()
    attention(query, key, value, 2).backward(d_attended)
    attended, sums = attend(query.detach(), key.detach(), value.detach(), 2)
    for own, gradient in zip(
        (query, key, value), attend_backward(d_attended, query, key, value, attended, sums, 2), strict=True
    ):
        assert own.grad is not None
        assert torch.equal(own.grad, gradient)


def test_c_is_compiled_once_and_kept(monkeypatch, tmp_path):
    if compiled._compiler() is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    (tmp_path / "seven.c").write_text("int seven(void) { return 7; }\n")
    library = compiled.compiled("seven")
    assert library is not None
    assert library.seven() == 7
    kept = list(compiled.cache_folder().iterdir())
    assert [path.suffix for path in kept] == [".so"]
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled twice"))
    assert compiled.compiled("seven") is not None


def test_without_a_compiler_or_with_a_fault_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    (tmp_path / "wrong.c").write_text("this is not C\n")
    assert compiled.compiled("wrong") is None
    assert not list(compiled.cache_folder().glob("*"))
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    assert compiled.compiled("wrong") is None
