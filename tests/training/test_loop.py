"""One step against diffusers' training script on equal input, written as its formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from limner.base.prompts import encode_ids, tokenize
from limner.training import EncodedPictures, set_up
from limner.training.examples import CLASS
from tests.training.sets import SUBJECT, full_run, lora_run

PROMPTS = ["a photo of sks cat", "a photo of cat"]


def pictures(seed):
    moments = torch.randn(4, 8, 8, 8, generator=torch.Generator().manual_seed(seed))
    return EncodedPictures(moments)


def gradients(training):
    return {name: p.grad.clone() for name, p in training.trainable.parameters.items() if p.grad is not None}


def script_loss(base, scheduler, batch, prior_loss_weight):
    """What train_dreambooth.py computes: noise through its scheduler, the batch cut in two, a mean of each half."""
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    if scheduler.config.prediction_type == "v_prediction":
        wanted = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    else:
        wanted = batch.noise
    prompts = [PROMPTS[row] for row in batch.prompt_rows.tolist()]
    embeds = encode_ids(base.text_encoder, tokenize(base.tokenizer, prompts).ids)
    prediction = base.unet(noisy, batch.timesteps, embeds).sample
    (ours, prior), (wanted, prior_wanted) = prediction.chunk(2), wanted.chunk(2)
    return functional.mse_loss(ours, wanted) + prior_loss_weight * functional.mse_loss(prior, prior_wanted)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_loss_and_gradients_are_those_of_the_official_script(tiny_base, prediction_type):
    from diffusers import DDPMScheduler

    tiny_base.noise_schedule["prediction_type"] = prediction_type
    known = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type")
    scheduler = DDPMScheduler(**{name: tiny_base.noise_schedule[name] for name in known})
    run = full_run(prior_loss_weight=0.7, batch_size=2)
    with set_up([run], tiny_base, SUBJECT, PROMPTS, pictures(0), pictures(1), None) as training:
        batch = training.work.draws[0](5)
        assert batch.prompt_rows.tolist() == [0, 0, CLASS, CLASS]
        training.work.number.fill_(5)
        loss = training.work.collect()[0, 0]
        ours = gradients(training)
        training.work.clear_gradients()
        theirs_loss = script_loss(tiny_base, scheduler, batch, 0.7)
        theirs_loss.backward()
        theirs = gradients(training)
    assert loss.item() == pytest.approx(theirs_loss.item(), rel=1e-5)
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("text_encoder.") for name in ours)
    largest = max(gradient.abs().max() for gradient in theirs.values())
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-4, atol=1e-5 * largest), name


def test_min_snr_weighs_instance_and_class_examples_by_their_own_timesteps(tiny_base):
    from limner.diffusion.noise_schedule import add_noise, snr

    run = lora_run(snr_gamma=1.0, batch_size=3, prior_preservation=True, prior_loss_weight=0.5)
    with set_up([run], tiny_base, SUBJECT, PROMPTS, pictures(0), pictures(1), None) as training:
        batch, alphas = training.work.draws[0](0), training.work.objective.alphas
        noisy = add_noise(batch.latents, batch.noise, batch.timesteps, alphas)
        with torch.no_grad():
            embeds = training.work.objective.prompt_embeds()[0, batch.prompt_rows]
            prediction = tiny_base.unet(noisy, batch.timesteps, embeds).sample
        expected = 0.0
        for index, ratio in enumerate(snr(batch.timesteps, alphas).tolist()):
            share = 0.5 / 3 if batch.prompt_rows[index] == CLASS else 1 / 3
            error = functional.mse_loss(prediction[index], batch.noise[index]).item()
            expected += share * min(ratio, 1.0) / ratio * error
        assert training.work.collect()[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_clipped_to_their_norm_and_zero_leaves_them(tiny_base):
    """Adam divides by the gradient's size, so that only its epsilon shows how large the clipped gradient was."""
    moved = {}
    for limit in (0.0, 1e-3, 1e-5):
        run = lora_run(max_gradient_norm=limit, epsilon=1.0, weight_decay=0.0, learning_rate=1.0)
        with set_up([run], tiny_base, SUBJECT, PROMPTS[:1], pictures(0), None, None) as training:
            before = training.trainable.weights.weight.clone()
            training.work()
            moved[limit] = (training.trainable.weights.weight - before).norm().item()
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert moved[1e-5] == pytest.approx(1e-5, rel=1e-2)
    assert moved[0.0] > 0.01


def test_frozen_parts_get_no_gradient(tiny_base):
    with set_up([lora_run()], tiny_base, SUBJECT, PROMPTS[:1], pictures(0), None, None) as training:
        training.work()
        trained = {id(parameter) for parameter in training.trainable.parameters.values()}
        for module in (tiny_base.unet, tiny_base.text_encoder, tiny_base.vae):
            for parameter in module.parameters():
                assert parameter.requires_grad == (id(parameter) in trained)
                assert (parameter.grad is None) == (id(parameter) not in trained)


def test_layers_that_clip_skip_leaves_out_do_not_stop_a_full_training(tiny_base):
    tiny_base.clip_skip = 1
    with set_up([full_run()], tiny_base, SUBJECT, PROMPTS[:1], pictures(0), None, None) as training:
        last = [name for name in training.trainable.parameters if "layers.1." in name and "text_encoder" in name]
        before = training.trainable.state()
        training.work()
        after = training.trainable.state()
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-4)}
    assert last
    assert changed
    assert not changed & set(last)


@pytest.mark.parametrize("make", [full_run, lora_run])
def test_every_trained_tensor_is_in_one_group_and_groups_are_named_by_their_modules(tiny_base, make):
    with set_up([make(text_encoder=True)], tiny_base, SUBJECT, PROMPTS, pictures(0), pictures(1), None) as training:
        groups, names = training.trainable.groups, list(training.trainable.parameters)
    assert list(groups) == ["unet", "text_encoder"]
    assert sorted(name for group in groups.values() for name in group) == sorted(names)
    assert all(name.startswith(f"{group}.") for group, members in groups.items() for name in members)
