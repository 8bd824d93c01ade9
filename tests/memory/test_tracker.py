"""Counting bytes of computations that never run."""

from __future__ import annotations

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional

from limner.memory.tracker import peak_bytes

KIB = 1024


def _meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_what_is_let_go_does_not_count_and_what_is_held_does():
    def chain() -> None:
        x = _meta(256)  # 1 KiB, as every result here
        for _ in range(5):
            x = x + 1

    def heap() -> None:
        kept = [_meta(256) for _ in range(5)]
        del kept

    assert peak_bytes(chain) == 2 * KIB
    assert peak_bytes(heap) == 5 * KIB


def test_a_view_and_a_result_in_place_are_no_new_storage():
    x = _meta(4, 64)
    assert peak_bytes(lambda: x.view(64, 4).T.add_(1)) == 0


def test_autograd_keeps_what_the_backward_pass_needs():
    x = _meta(256).requires_grad_()

    def step() -> None:
        y = x
        for _ in range(4):
            y = y.sin()  # each keeps its input: x itself and three results
        y.sum()

    assert peak_bytes(step) == 4 * KIB + 512


def test_checkpointing_counts_less():
    layers = [nn.Sequential(nn.SiLU(), nn.SiLU(), nn.SiLU(), nn.SiLU()) for _ in range(6)]
    x = _meta(64, 256).requires_grad_()

    def step(checkpointed: bool) -> None:
        y = x
        for layer in layers:
            y = torch.utils.checkpoint.checkpoint(layer, y, use_reentrant=False) if checkpointed else layer(y)
        torch.autograd.backward(y.sum())

    assert peak_bytes(lambda: step(True)) < 0.6 * peak_bytes(lambda: step(False))


def test_attention_holds_no_matrix_of_scores_and_torch_is_as_it_was():
    own = functional.scaled_dot_product_attention, torch.autocast
    q, k, v = (_meta(1, 8, 1024, 40).requires_grad_() for _ in range(3))
    bytes_each = 8 * 1024 * 40 * 4
    scores = 8 * 1024 * 1024 * 4
    counted = peak_bytes(lambda: torch.autograd.backward(functional.scaled_dot_product_attention(q, k, v).sum()))
    assert bytes_each < counted < 7 * bytes_each < scores
    assert own == (functional.scaled_dot_product_attention, torch.autocast)
