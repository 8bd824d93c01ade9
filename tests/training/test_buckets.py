"""Photos in buckets: what is drawn from which, and that nothing else about a step depends on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from limner.training import EncodedPictures, HeldOutLoss, set_up
from limner.training.examples import CLASS, BatchDraw, Drawing
from limner.training.held_out import AT_ONCE, NOISE_LEVELS
from tests.training.sets import SUBJECT, full_run, lora_run

PROMPTS = ["a photo of sks cat", "a photo of cat"]
SHAPES = [(8, 8, 8), (8, 8, 16), (8, 16, 8)]  # (8, H/8, W/8)
DRAWING = Drawing(seeds=(3,), batch_size=2, timestep_count=1000, scaling_factor=0.18215)


def buckets(*counts, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return [
        EncodedPictures(torch.randn(count, *shape, generator=drawn))
        for count, shape in zip(counts, SHAPES, strict=False)
    ]


class Heard:
    """A draw that remembers which pictures it drew, by their shape and place."""

    def __init__(self, draw, shown):
        self.draw, self.shown = draw, shown

    def __call__(self, number, turn):
        count, shape = self.draw.drawing.batch_size, self.draw.sources[0].moments.shape[2:]
        chosen = self.draw.pictures(turn * count + torch.arange(count))[0]
        self.shown.append([(*shape, place) for place in chosen.tolist()])
        return self.draw(number, turn)


@pytest.mark.parametrize("parts", [1, 2])
def test_photos_of_all_shapes_come_equally_often_and_each_step_has_one(tiny_base, parts):
    run = lora_run(steps=12, batch_size=2, gradient_accumulation_steps=3)
    photos, shown = buckets(3, 2, 1), []
    with set_up([run], tiny_base, SUBJECT, PROMPTS[:1], photos, None, None, parts=parts) as training:
        training.work.draws = [Heard(draw, shown) for draw in training.work.draws]
        for step in range(12):
            training.work(training.work.bucket_of(step))
    micro_batches = 3 * parts
    assert len(shown) == 12 * micro_batches
    for start in range(0, len(shown), micro_batches):
        assert len({place[:2] for batch in shown[start : start + micro_batches] for place in batch}) == 1
    often = Counter(place for batch in shown for place in batch)
    assert len(often) == 6
    assert set(often.values()) == {12}  # 12 steps of 6 examples, of 6 photos


def test_noise_levels_are_those_that_there_were_without_buckets():
    photos = buckets(5)[0]
    draw = BatchDraw(photos, None, replace(DRAWING, noise_offset=0.1))
    plain, in_bucket = draw(torch.tensor(7)), draw(torch.tensor(7), torch.tensor(2))
    assert torch.equal(plain.timesteps, in_bucket.timesteps)
    assert torch.equal(plain.noise, in_bucket.noise)
    assert torch.equal(draw(torch.tensor(7), torch.tensor(7)).latents, plain.latents)
    early = draw(torch.tensor(2))
    assert not torch.equal(early.timesteps, in_bucket.timesteps)
    still = BatchDraw(EncodedPictures(photos.moments.index_fill(1, torch.arange(4, 8), -30.0)), None, DRAWING)
    assert torch.allclose(still(torch.tensor(7), torch.tensor(2)).latents, still(torch.tensor(2)).latents, atol=1e-5)


def test_class_images_of_a_bucket_keep_the_class_prompt_whatever_its_photos_captions(tiny_base):
    """A bucket whose photos have the first of three captions only must not take the second for the class prompt."""
    prompts = ["sks cat on a sofa", "sks cat in the grass", "sks cat at night", "a photo of cat"]
    rows = [torch.tensor([0, 0]), torch.tensor([2, 1, 0])]
    photos = [replace(part, prompt_rows=own) for part, own in zip(buckets(2, 3), rows, strict=True)]
    run = full_run(prior_preservation=True, steps=5)
    with set_up([run], tiny_base, SUBJECT, prompts, photos, buckets(2, 2, seed=1), None) as training:
        turns = training.work.schedule
        assert Counter(turns.buckets) == {0: 2, 1: 3}
        for step, (bucket, turn) in enumerate(zip(turns.buckets, turns.earlier, strict=True)):
            batch = training.work.draws[bucket](torch.tensor(step), torch.tensor(turn))
            own, of_class = batch.prompt_rows[0].tolist()
            assert own in rows[bucket].tolist()
            assert of_class == 3
            assert training.work.draws[bucket].prompt_rows.tolist() == [0, CLASS]
            training.work(bucket)


def test_one_shape_is_trained_as_ever(tiny_base):
    states = []
    for photos in (buckets(3)[0], buckets(3)):
        with set_up([full_run()], tiny_base, SUBJECT, PROMPTS[:1], photos, None, None) as training:
            assert training.work.schedule is None
            training.work()
            states.append(training.trainable.state())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_the_held_out_loss_is_over_photos_of_all_shapes(tiny_base):
    assert AT_ONCE == NOISE_LEVELS  # so that a photo is a batch, and the sums below are the same
    square, wide = (part.moments for part in buckets(3, 2))
    with set_up([lora_run()], tiny_base, SUBJECT, PROMPTS[:1], buckets(1)[0], None, None) as training:
        objective = training.work.objective

        def loss(*moments):
            return HeldOutLoss(moments, 0.18215, len(objective.alphas))(objective)

        assert loss(square) == loss(square[:1], square[1:])
        first, both = loss(square), loss(square, wide)
        assert both == loss(square, wide)
        of_wide = (5 * both - 3 * first) / 2
        assert of_wide != pytest.approx(first, rel=1e-6)
        assert 0.5 < of_wide < 2
