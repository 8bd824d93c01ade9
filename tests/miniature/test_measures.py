"""Small pure functions of the training and its checks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

import numpy as np  # noqa: E402

from miniature.clip import matched_contrast  # noqa: E402
from miniature.latents import make_slots, unpack_edges  # noqa: E402
from miniature.trainer import DECAY_SHARE, rate_factor  # noqa: E402
from miniature.unet import slot_drawer  # noqa: E402
from miniature.vae import psnr  # noqa: E402
from miniature.views import LATENT_VIEWS, ViewRange, draw_transforms, make_views, to_pictures, to_pixel_values  # noqa: E402


def test_psnr_of_a_constant_error() -> None:
    first = torch.zeros(2, 3, 8, 8)
    assert psnr(first, first + 0.2).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)


def test_edges_survive_packing() -> None:
    edges = np.random.default_rng(0).random((2, 256, 256)) < 0.1
    hints = unpack_edges(torch.from_numpy(np.packbits(edges, axis=2)))
    assert hints.shape == (2, 3, 256, 256)
    assert np.array_equal(hints[:, 1].numpy() > 0, edges)


def test_a_view_that_moves_nothing_returns_the_picture_or_its_mirror() -> None:
    pictures = torch.randint(0, 256, (4, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    still = ViewRange(zoom=(1, 1), shift=0, untouched_share=1.0)
    transforms = draw_transforms(torch.Generator().manual_seed(1), 4, still)
    views = torch.from_numpy(to_pictures(make_views(pictures, transforms)))
    for picture, view in zip(pictures, views, strict=True):
        assert torch.equal(view, picture) or torch.equal(view, picture.flip(1))
    assert torch.equal(torch.from_numpy(to_pictures(to_pixel_values(pictures))), pictures)


def test_views_repeat_from_their_seed() -> None:
    first, second = (draw_transforms(torch.Generator().manual_seed(7), 5, LATENT_VIEWS) for _ in range(2))
    assert torch.equal(first, second)


def test_the_learning_rate_warms_up_and_decays() -> None:
    assert rate_factor(0, 100, 0.0, decays=True) == pytest.approx(0.01)
    assert rate_factor(500, 100, 0.5, decays=True) == 1.0
    assert rate_factor(500, 100, 0.9, decays=True) == pytest.approx(0.1 / DECAY_SHARE)
    assert rate_factor(500, 100, 0.9, decays=False) == 1.0


def test_contrast_with_several_right_answers_is_least_where_they_score_highest() -> None:
    match = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert matched_contrast(10 * match, match) < matched_contrast(10 * torch.eye(3), match)


def test_slots_are_drawn_with_the_photo_share() -> None:
    slots = make_slots(photo_views=4, style_views=2)
    drawn = slot_drawer(slots, 0.4, "cpu")(torch.Generator().manual_seed(0), 20000)
    is_photo = torch.tensor([slots[index].style == 0 for index in drawn.tolist()])
    assert float(is_photo.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert int(drawn.max()) == len(slots) - 1
