"""Which cards take the kernel for short prompts."""

from __future__ import annotations

import pytest
import torch

from limner.kernels import attention


@pytest.mark.parametrize(
    ("capability", "hip", "fits"),
    [
        ((9, 0), None, True),
        ((10, 0), None, True),
        ((8, 6), None, False),
        ((12, 0), None, False),
        ((9, 4), "6.2", False),  # AMD's
    ],
)
def test_tiles_are_kept_from_cards_that_they_do_not_fit(monkeypatch, capability, hip, fits):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert attention._has_room.__wrapped__(torch.device("cuda", 0)) is fits
