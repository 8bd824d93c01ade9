"""Drawing: every picture once an epoch, the same draws whatever is trained, and what the cache keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from limner.diffusion.latents import encode_moments, pixels_from_image, sample_moments
from limner.diffusion.objective import offset_noise
from limner.diffusion.randomness import integers, normal, random_words, uniform
from limner.errors import InputError
from limner.training.examples import (
    CLASS,
    INSTANCE,
    Batch,
    BatchDraw,
    Drawing,
    EncodedPictures,
    encode_pictures,
)
from tests.training.sets import write_photo_set

DRAWING = Drawing(seeds=(3,), batch_size=2, timestep_count=1000, scaling_factor=0.18215)


def pictures(count, seed=0, mirrored=False, shape=(8, 4, 4)):
    moments = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return EncodedPictures(moments, moments.flip(3) if mirrored else None)


def draw_batch(instance, of_class, drawing, number) -> Batch:
    return BatchDraw(instance, of_class, drawing)(number)


def order_of(seed, epoch, count):
    draw = BatchDraw(pictures(count), None, replace(DRAWING, seeds=(seed,), batch_size=count))
    return tuple(draw.pictures(torch.arange(epoch * count, (epoch + 1) * count))[0].tolist())


def plain_example(seed, purpose, group, drawing, position):
    """Latents, noise, timestep of one example by the plain functions, each purpose drawn on its own."""
    epoch, place = divmod(position, len(group))
    words = random_words(seed, f"{purpose} data order", epoch, 2 * len(group)).reshape(-1, 2).tolist()
    picture = sorted(range(len(group)), key=lambda place: (words[place], place))[place]
    flip = group.mirrored is not None and uniform(seed, f"{purpose} flip", position, (1,)).item() < 0.5
    moments = (group.mirrored if flip else group.moments)[picture : picture + 1]
    shape = (1, moments.shape[1] // 2, *moments.shape[2:])
    latents = sample_moments(moments, normal(seed, f"{purpose} posterior", position, shape), drawing.scaling_factor)
    noise = normal(seed, f"{purpose} noise", position, shape)
    if drawing.noise_offset:
        channels = normal(seed, f"{purpose} noise offset", position, shape[:2])
        noise = offset_noise(noise, channels, drawing.noise_offset)
    return latents, noise, integers(seed, f"{purpose} timesteps", position, (1,), drawing.timestep_count)


SHAPES = st.sampled_from([(8, 4, 4), (8, 5, 3), (6, 1, 3), (32, 2, 2), (8, 32, 32)])


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**40), min_size=1, max_size=3, unique=True),
    number=st.integers(0, 2**33),
    batch_size=st.integers(1, 9),
    counts=st.tuples(st.integers(1, 7), st.integers(0, 9)),
    mirrored=st.booleans(),
    noise_offset=st.sampled_from([0.0, 0.1]),
    shape=SHAPES,
)
def test_a_batch_is_bit_equal_to_its_examples_drawn_one_by_one(
    seeds, number, batch_size, counts, mirrored, noise_offset, shape
):
    drawing = replace(DRAWING, seeds=tuple(seeds), batch_size=batch_size, noise_offset=noise_offset)
    groups = {"instance": pictures(counts[0], 0, mirrored, shape)}
    if counts[1]:
        groups["class"] = pictures(counts[1], 1, shape=shape)
    batch = BatchDraw(groups["instance"], groups.get("class"), drawing)(torch.tensor(number))
    positions = range(number * batch_size, (number + 1) * batch_size)
    plain = [
        plain_example(seed, purpose, group, drawing, position)
        for seed in seeds
        for purpose, group in groups.items()
        for position in positions
    ]
    for drawn, expected in zip((batch.latents, batch.noise, batch.timesteps), zip(*plain, strict=True), strict=True):
        assert torch.equal(drawn, torch.cat(expected))


# seed, number, batch size, photos, class images: picture, mirrored, timestep, noise[0] and noise[200] of every
# example, photos first. A training that is resumed must go on with what it was begun with.
GOLDEN = [
    (
        (0, 0, 3, 5, 4),
        [1, 4, 0, 2, 1, 0],
        [0, 0, 1],
        [399, 406, 495, 834, 360, 832],
        [-0.8423, 0.7833, -0.8819, -1.5053, 2.2461, -0.9967],
        [0.4924, 1.381, 0.5325, -0.6189, -0.2111, 2.0049],
    ),
    (
        (3, 17, 2, 1, 6),
        [0, 0, 1, 0],
        [0, 0],
        [318, 271, 430, 353],
        [0.0193, -0.4036, -1.6003, -1.1349],
        [0.6194, -0.952, 0.5818, 0.1748],
    ),
    (
        (1099511627783, 10000, 4, 3, 2),
        [0, 2, 0, 1, 0, 1, 0, 1],
        [1, 1, 1, 0],
        [625, 418, 245, 370, 555, 81, 895, 191],
        [-0.2506, -0.711, 0.9777, -0.7929, 0.4471, 0.2529, 0.6312, -0.9117],
        [-0.5606, -0.9026, 0.7943, 0.4388, -0.277, -0.7634, -1.7519, -0.2865],
    ),
    (
        (11, 8589934592, 8, 5, 200),
        [2, 0, 4, 3, 3, 2, 1, 0, 10, 176, 14, 173, 130, 81, 121, 187],
        [1, 1, 1, 1, 1, 1, 0, 0],
        [708, 558, 54, 875, 658, 93, 974, 554, 809, 647, 565, 994, 994, 728, 581, 777],
        [
            1.5194, 1.4553, 0.0359, 0.2061, 0.1228, 0.1207, -1.1115, -1.9597, -0.1731, -0.477, -1.3733,
            0.2734, -0.3246, 0.2049, -0.8914, 0.5531,
        ],
        [
            0.5668, -0.0549, -4.3215, 1.6732, 0.5178, -0.6219, -1.4644, -0.2789, -1.0129, -1.5475, -1.0744,
            -1.1056, 0.1393, -2.6108, 1.2547, -1.2964,
        ],
    ),
]  # fmt: skip


def numbered(count):
    """Pictures whose latents are their number, and 1000 more when mirrored."""
    moments = torch.arange(count, dtype=torch.float32)[:, None, None, None].repeat(1, 8, 8, 8)
    moments[:, 4:] = -30.0  # log-variance
    return EncodedPictures(moments, torch.cat([moments[:, :4] + 1000, moments[:, 4:]], 1))


@pytest.mark.parametrize(("drawn", "chosen", "mirrored", "timesteps", "first_noise", "later_noise"), GOLDEN)
def test_what_is_drawn_never_changes(drawn, chosen, mirrored, timesteps, first_noise, later_noise):
    seed, number, batch_size, photos, class_images = drawn
    drawing = Drawing((seed,), batch_size, 1000, scaling_factor=1.0)
    batch = draw_batch(numbered(photos), EncodedPictures(numbered(class_images).moments), drawing, number)
    shown = batch.latents[:, 0, 0, 0].round().long()
    assert (shown % 1000).tolist() == chosen
    assert (shown // 1000).tolist() == mirrored + [0] * batch_size  # class images are never mirrored
    assert batch.timesteps.tolist() == timesteps
    values = batch.noise.flatten(1)[:, ::200].T  # (2, B)
    assert torch.allclose(values, torch.tensor([first_noise, later_noise]), atol=1e-4)


@pytest.mark.parametrize("noise_offset", [0.0, 0.1])
def test_the_draw_reads_no_value_back_and_so_can_be_captured(noise_offset):
    draw = BatchDraw(pictures(5, mirrored=True), pictures(7, seed=1), replace(DRAWING, noise_offset=noise_offset))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # a number without a value: reading it back raises
        traced = make_fx(lambda number: vars(draw(number)))(mode.from_tensor(torch.tensor(3)))
    for number in (3, 4, 10_000):  # traced once, right for every step
        expected = vars(draw(number))
        assert all(torch.equal(value, expected[name]) for name, value in traced(torch.tensor(number)).items())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(1, 40), epoch=st.integers(0, 1000))
def test_every_picture_stands_once_in_every_epoch(seed, count, epoch):
    assert sorted(order_of(seed, epoch, count)) == list(range(count))


def test_epochs_have_orders_of_their_own():
    orders = {order_of(0, epoch, 9) for epoch in range(20)}
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
        draw_batch(pictures(5), None, replace(DRAWING, seeds=(4,)), 0),
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
    first = encode_pictures(tiny_base, photo_set.files, (64, 64), **settings)
    assert first.moments.shape == (5, 8, 8, 8)
    import numpy as np
    from PIL import Image

    pixels = pixels_from_image(np.array(Image.open(photo_set.files[4])))[None]
    assert torch.allclose(first.moments[4:], encode_moments(tiny_base.vae, pixels), atol=1e-4)
    assert torch.allclose(first.mirrored[4:], encode_moments(tiny_base.vae, pixels.flip(3)), atol=1e-4)
    with torch.no_grad():
        for parameter in tiny_base.vae.parameters():
            parameter.zero_()
    again = encode_pictures(tiny_base, photo_set.files, (64, 64), **settings)
    assert torch.equal(again.moments, first.moments)
    other = encode_pictures(tiny_base, photo_set.files, (64, 64), **(settings | {"base_hash": "another"}))
    assert not torch.equal(other.moments, first.moments)


def test_a_picture_of_another_size_is_refused_by_name(tiny_base, tmp_path):
    photo_set = write_photo_set(tmp_path / "photos", count=1, size_px=72)
    with pytest.raises(InputError, match=r"0000\.png is 72x72 px and the study trains at 64x64"):
        encode_pictures(tiny_base, photo_set.files, (64, 64), flip=False, base_hash="b", cache=tmp_path)
