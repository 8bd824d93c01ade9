"""The engine computes what a plain training in one file computes: losses and weights, in full and by LoRA."""

from __future__ import annotations

import pytest
import torch

from limner.diffusion.latents import encode_moments
from limner.diffusion.randomness import uniform
from limner.training import EncodedPictures, set_up
from tests.plain_trainer import Settings, train
from tests.training.sets import SUBJECT, full_run, lora_run

PROMPTS = ("a photo of sks cat", "a photo of cat")


def drawn_pictures(count, purpose):
    return uniform(7, purpose, 0, (count, 3, 64, 64)) * 2 - 1


@pytest.mark.parametrize("rank", [0, 2])
def test_the_engine_equals_a_plain_training(tiny_base, tiny_folder, rank):
    photos, class_images = drawn_pictures(3, "photos"), drawn_pictures(4, "class images")
    settings = Settings(PROMPTS, rank, learning_rate=1e-2 if rank else 1e-3, seed=3, prior_loss_weight=0.7)
    plain = train(tiny_folder, photos, class_images, settings)

    shared = {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "training_seeds": [settings.seed],
        "learning_rate": settings.learning_rate,
        "prior_loss_weight": settings.prior_loss_weight,
    }
    run = lora_run(rank=rank, **shared) if rank else full_run(text_encoder=True, **shared)
    encoded = [EncodedPictures(encode_moments(tiny_base.vae, pictures)) for pictures in (photos, class_images)]
    with set_up([run], tiny_base, SUBJECT, PROMPTS, *encoded, None) as training:
        for _ in range(settings.steps):
            training.work()
        losses = [rows[0][0] for rows in training.work.read(0, settings.steps)]
        weights = {name: training.trainable.weights.read(name) for name in training.trainable.weights.segments}

    assert losses == pytest.approx(plain.losses, rel=1e-4)
    assert len(set(plain.losses)) == settings.steps
    assert weights.keys() == plain.weights.keys()
    for name, expected in plain.weights.items():
        torch.testing.assert_close(weights[name].view_as(expected), expected, rtol=1e-3, atol=5e-5, msg=name)
