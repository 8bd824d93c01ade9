"""Drawing: every picture once an epoch, the same draws whatever is trained, and what the cache keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.diffusion.latents import encode_moments, pixels_from_image
from limner.errors import InputError
from limner.training.examples import (
    CLASS,
    INSTANCE,
    Drawing,
    EncodedPictures,
    draw_batch,
    encode_pictures,
    picture_at,
)
from tests.training.sets import write_photo_set

DRAWING = Drawing(seed=3, batch_size=2, timestep_count=1000, scaling_factor=0.18215)


def pictures(count, seed=0, mirrored=False):
    moments = torch.randn(count, 8, 4, 4, generator=torch.Generator().manual_seed(seed))
    return EncodedPictures(moments, moments.flip(3) if mirrored else None)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(1, 40), epoch=st.integers(0, 1000))
def test_every_picture_stands_once_in_every_epoch(seed, count, epoch):
    drawn = [picture_at(seed, "instance", epoch * count + place, count) for place in range(count)]
    assert sorted(drawn) == list(range(count))


def test_epochs_have_orders_of_their_own():
    orders = {tuple(picture_at(0, "instance", epoch * 9 + place, 9) for place in range(9)) for epoch in range(20)}
    assert len(orders) > 15


@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 10_000), batch_size=st.integers(1, 4), count=st.integers(1, 6))
def test_a_batch_is_its_examples_whatever_the_batch_size(number, batch_size, count):
    drawing, single = replace(DRAWING, batch_size=batch_size), replace(DRAWING, batch_size=1)
    batch = draw_batch(pictures(count), None, drawing, number)
    for place in range(batch_size):
        alone = draw_batch(pictures(count), None, single, number * batch_size + place)
        assert torch.equal(batch.latents[place], alone.latents[0])
        assert torch.equal(batch.noise[place], alone.noise[0])
        assert torch.equal(batch.timesteps[place], alone.timesteps[0])


def test_class_images_change_nothing_for_the_photos_and_carry_their_own_weight():
    drawing = replace(DRAWING, prior_loss_weight=0.5)
    alone, both = (draw_batch(pictures(5), of_class, drawing, 7) for of_class in (None, pictures(6, seed=1)))
    mine = both.prompt_rows == INSTANCE
    for name in ("latents", "noise", "timesteps"):
        assert torch.equal(getattr(both, name)[mine], getattr(alone, name))
    assert both.loss_weights[mine].tolist() == [0.5, 0.5]
    assert both.loss_weights[both.prompt_rows == CLASS].tolist() == [0.25, 0.25]
    assert not torch.equal(both.noise[mine], both.noise[~mine])


def test_seeds_and_numbers_draw_differently_and_repeats_alike():
    first = draw_batch(pictures(5), None, DRAWING, 0)
    again = draw_batch(pictures(5), None, DRAWING, 0)
    assert torch.equal(first.noise, again.noise)
    for other in (
        draw_batch(pictures(5), None, DRAWING, 1),
        draw_batch(pictures(5), None, replace(DRAWING, seed=4), 0),
    ):
        assert not torch.equal(first.noise, other.noise)
        assert not torch.equal(first.timesteps, other.timesteps)


def test_timesteps_cover_the_whole_range_evenly():
    drawn = torch.cat([draw_batch(pictures(1), None, DRAWING, number).timesteps for number in range(500)])
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    quarters = torch.bincount(drawn // 250, minlength=4)
    assert quarters.min() > 180  # of 1000 draws, 250 expected


def test_half_of_the_pictures_are_mirrored_when_asked():
    plain, flipping = pictures(1), pictures(1, mirrored=True)
    changed = 0
    for number in range(40):
        batch, other = (draw_batch(group, None, DRAWING, number) for group in (plain, flipping))
        assert torch.equal(batch.noise, other.noise)
        changed += sum(not torch.equal(a, b) for a, b in zip(batch.latents, other.latents, strict=True))
    assert 25 < changed < 55


def test_noise_offset_shifts_channels():
    plain, shifted = (draw_batch(pictures(1), None, replace(DRAWING, noise_offset=o), 0).noise for o in (0.0, 0.5))
    shift = shifted - plain
    assert shift.abs().max() > 0.01
    assert torch.allclose(shift, shift.mean((2, 3), keepdim=True).expand_as(shift), atol=1e-6)


def test_moments_are_the_vaes_and_are_read_again_from_the_cache(tiny_base, tmp_path):
    photo_set = write_photo_set(tmp_path / "photos", count=5)
    settings = {"flip": True, "base_hash": "b", "cache": tmp_path / "cache"}
    first = encode_pictures(tiny_base.vae, photo_set.files, 64, **settings)
    assert first.moments.shape == (5, 8, 8, 8)
    import numpy as np
    from PIL import Image

    pixels = pixels_from_image(np.array(Image.open(photo_set.files[4])))[None]
    assert torch.allclose(first.moments[4:], encode_moments(tiny_base.vae, pixels), atol=1e-4)
    assert torch.allclose(first.mirrored[4:], encode_moments(tiny_base.vae, pixels.flip(3)), atol=1e-4)
    with torch.no_grad():
        for parameter in tiny_base.vae.parameters():
            parameter.zero_()
    again = encode_pictures(tiny_base.vae, photo_set.files, 64, **settings)
    assert torch.equal(again.moments, first.moments)
    other = encode_pictures(tiny_base.vae, photo_set.files, 64, **(settings | {"base_hash": "another"}))
    assert not torch.equal(other.moments, first.moments)


def test_a_picture_of_another_size_is_refused_by_name(tiny_base, tmp_path):
    photo_set = write_photo_set(tmp_path / "photos", count=1, size_px=72)
    with pytest.raises(InputError, match=r"0000\.png is 72x72 px and the study trains at 64x64"):
        encode_pictures(tiny_base.vae, photo_set.files, 64, flip=False, base_hash="b", cache=tmp_path)
