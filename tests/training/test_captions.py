"""Captions: each photo is trained with the prompt that its caption makes, and with nothing else's."""

from __future__ import annotations

import pytest
import torch

from limner.base.prompts import encode_ids, tokenize
from limner.training import EncodedPictures, set_up
from tests.training.sets import SUBJECT, full_run, lora_run
from tests.training.test_loop import pictures

PROMPTS = ["sks cat on a sofa", "sks cat in the grass", "a photo of cat"]


def captioned(rows):
    plain = pictures(0)
    return EncodedPictures(plain.moments, None, torch.tensor(rows))


@pytest.mark.parametrize("of_class", [True, False])
def test_every_photo_is_drawn_with_its_own_prompt(tiny_base, of_class):
    rows = [0, 1, 1, 0]
    prompts, others = (PROMPTS, pictures(1)) if of_class else (PROMPTS[:2], None)
    run = full_run(batch_size=4, prior_preservation=of_class)
    with set_up([run], tiny_base, SUBJECT, prompts, captioned(rows), others, None) as training:
        draw = training.work.draws[0]
        chosen = draw.pictures(3 * 4 + torch.arange(4))
        batch = draw(torch.tensor(3))
        assert batch.prompt_rows[0, :4].tolist() == [rows[place] for place in chosen[0].tolist()]
        assert batch.prompt_rows[0, 4:].tolist() == ([2] * 4 if of_class else [])


@pytest.mark.parametrize("text_encoder", [True, False])
def test_the_loss_is_that_of_the_captions(tiny_base, text_encoder):
    run = lora_run(batch_size=4, text_encoder=text_encoder)
    with set_up([run], tiny_base, SUBJECT, PROMPTS[:2], captioned([0, 1, 1, 0]), None, None) as training:
        batch = training.work.draws[0](torch.tensor(0))
        loss, _ = training.work.objective(batch)
        embeds = encode_ids(
            tiny_base.text_encoder,
            tokenize(tiny_base.tokenizer, [PROMPTS[row] for row in batch.prompt_rows[0].tolist()]).ids,
        )
        noisy = training.work.objective
        assert noisy.prompt_embeds.drawn(batch.prompt_rows).shape == embeds.shape
        assert torch.allclose(noisy.prompt_embeds.drawn(batch.prompt_rows), embeds, atol=1e-6)
        alone, _ = training.work.objective(replace_rows(batch, 0))
    assert loss.item() != alone.item()


def replace_rows(batch, row):
    from dataclasses import replace

    return replace(batch, prompt_rows=torch.full_like(batch.prompt_rows, row))


def test_equal_captions_train_as_one_prompt_does(tiny_base):
    losses = []
    for prompts, photos in ((PROMPTS[:1], pictures(0)), (PROMPTS[:1] + PROMPTS[:1], captioned([0, 0, 1, 0]))):
        with set_up([full_run(batch_size=2)], tiny_base, SUBJECT, prompts, photos, None, None) as training:
            losses.append(training.work.collect()[0, 0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_repeated_photos_come_as_often_as_they_should():
    photos = captioned([0, 1, 1, 0]).repeated([1, 3, 1, 1])
    assert len(photos) == 6
    assert photos.prompt_rows.tolist() == [0, 1, 1, 1, 1, 0]
    assert torch.equal(photos.moments[1], photos.moments[3])


@pytest.mark.parametrize(("prompt", "caption", "filled"), [
    ("a photo of {subject}", "on a sofa", "a photo of sks cat"),
    ("a photo of {subject}, {caption}", "on a sofa", "a photo of sks cat, on a sofa"),
    ("a photo of {subject}, {caption}", "", "a photo of sks cat"),
    ("{caption}", "", "sks cat"),
    ("{caption}", "{subject} at {noon}", "sks cat at {noon}"),
])  # fmt: skip
def test_what_a_caption_makes_of_a_prompt(prompt, caption, filled):
    assert SUBJECT.fill_captioned(prompt, caption) == filled
