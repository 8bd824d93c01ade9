"""The VAE's last convolution solved anew: flat colours better, photos as little changed as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from torch.nn import functional as F  # noqa: E402

from miniature.flats import change_last_layer, flat_pictures, least_change  # noqa: E402

CHANNELS = 4
FEATURES = 9 * CHANNELS + 1


def sample(seed: int, pixels: int = 400) -> Any:
    return torch.randn(pixels, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_change_is_the_least_squares_one_and_a_dear_photo_is_left_alone() -> None:
    flats, photos = sample(0), sample(1)
    truth = sample(2, 3).T  # (D, 3): the flats lack exactly this
    lacking = flats @ truth
    equations = flats.T @ flats / len(flats), flats.T @ lacking / len(flats), photos.T @ photos / len(photos)
    assert torch.allclose(least_change(*equations, 0.0), truth)
    changed = [float((photos @ least_change(*equations, weight)).square().mean()) for weight in (0.0, 1.0, 1e6)]
    assert changed[0] > changed[1] > changed[2]
    assert changed[2] < 1e-6 * changed[0]


def test_a_change_lands_on_the_weights_that_it_was_solved_for() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        "decoder.conv_out.weight": torch.randn(3, CHANNELS, 3, 3, generator=generator),
        "decoder.conv_out.bias": torch.randn(3, generator=generator),
    }
    hidden = torch.randn(2, CHANNELS, 8, 8, generator=generator)
    change = torch.randn(FEATURES, 3, generator=generator, dtype=torch.float64)
    after = change_last_layer(weights, change)
    before, result = (
        F.conv2d(hidden, w["decoder.conv_out.weight"], w["decoder.conv_out.bias"], padding=1) for w in (weights, after)
    )
    patches = F.unfold(hidden, 3, padding=1)
    patches = torch.cat([patches, torch.ones_like(patches[:, :1])], 1)
    expected = (change.float().T @ patches).reshape(result.shape)
    assert torch.allclose(result - before, expected, atol=1e-4)


def test_half_of_the_flat_pictures_are_grey_and_all_repeat_from_their_seed() -> None:
    pictures = flat_pictures(0, 10)
    colours = pictures[:, 0, 0]
    assert np.array_equal(pictures, np.broadcast_to(colours[:, None, None], pictures.shape))
    assert (np.ptp(colours, axis=1) == 0).tolist() == [True] * 5 + [False] * 5
    assert np.array_equal(colours, flat_pictures(0, 10)[:, 0, 0])
    assert not np.array_equal(colours, flat_pictures(1, 10)[:, 0, 0])
