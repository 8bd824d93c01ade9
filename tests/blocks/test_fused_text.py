"""A text encoder with fused blocks computes what transformers' own computes, and leaves it what it does not know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.adapters import LowRankLayer, inject
from limner.adapters.low_rank import LowRankUpdate, initial_update, target_layers
from limner.base.prompts import encode_ids
from limner.blocks import fused
from limner.kernels.available import has_triton

FP32 = has_triton(torch.zeros(1))  # Triton's kernels compute in fp32
DTYPE, TOLERANCE = (torch.float32, 1e-5) if FP32 else (torch.float64, 1e-9)


@pytest.fixture
def text_encoder(tiny_base):
    return tiny_base.text_encoder.to(DTYPE)


def ids(text_encoder, tokens=77):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, text_encoder.config.vocab_size, (2, tokens), generator=generator)


def embeds_and_gradients(text_encoder, watched, clip_skip=0, tokens=77):
    embeds = encode_ids(text_encoder, ids(text_encoder, tokens), clip_skip)
    probe = torch.linspace(-1, 1, embeds.numel(), dtype=embeds.dtype).view_as(embeds)
    return embeds.detach(), torch.autograd.grad((embeds * probe).sum(), watched, allow_unused=clip_skip > 0)


def same(found, wanted):
    assert torch.allclose(found[0], wanted[0], rtol=0, atol=TOLERANCE * float(wanted[0].abs().max()))
    scale = max(float(each.abs().max()) for each in wanted[1] if each is not None)
    for one, other in zip(found[1], wanted[1], strict=True):
        assert (one is None) == (other is None)
        assert other is None or torch.allclose(one, other, rtol=0, atol=TOLERANCE * scale)


def forms_of(text_encoder):
    return [type(module).__name__ for module in text_encoder.modules() if "forward" in vars(module)]


def beside_one_another(text_encoder):
    """Give the weights of each attention's keys, values and queries one storage, as the engine does."""
    for layer in text_encoder.encoder.layers:
        layers = [getattr(layer.self_attn, name) for name in ("k_proj", "v_proj", "q_proj")]
        for each, part in zip(layers, torch.cat([each.weight.data for each in layers]).chunk(3), strict=True):
            each.weight.data = part


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("clip_skip", "tokens"), [(0, 77), (0, 9), (1, 77)])
def test_embeddings_and_every_gradient_are_transformers_own(text_encoder, joint, clip_skip, tokens):
    watched = list(text_encoder.requires_grad_(True).parameters())
    wanted = embeds_and_gradients(text_encoder, watched, clip_skip, tokens)
    if joint:
        beside_one_another(text_encoder)
    with fused(text_encoder, everywhere=True):
        assert forms_of(text_encoder) == ["CLIPTextModel", "CLIPEncoderLayer", "CLIPEncoderLayer"]
        same(embeds_and_gradients(text_encoder, watched, clip_skip, tokens), wanted)
    assert forms_of(text_encoder) == []


def test_keys_values_and_queries_that_learn_come_from_one_product(text_encoder, monkeypatch):
    from limner.blocks import layers

    products, joint_linear = [], layers.joint_linear

    def watched(x, weights, biases=()):
        products.append((len(weights), len(biases)))
        return joint_linear(x, weights, biases)

    monkeypatch.setattr(layers, "joint_linear", watched)
    text_encoder.requires_grad_(True)
    beside_one_another(text_encoder)
    with fused(text_encoder, everywhere=True):
        encode_ids(text_encoder, ids(text_encoder))
    assert products.count((3, 3)) == len(text_encoder.encoder.layers)


@pytest.mark.parametrize("targets", ["attention", "transformer"])
def test_low_rank_updates_act_in_fused_layers_too(text_encoder, targets):
    layers = dict(text_encoder.named_modules())
    updates = {}
    for index, name in enumerate(target_layers(text_encoder, targets)):
        fresh = initial_update(layers[name], 2, 2.0, 0, index)
        updates[name] = LowRankUpdate(fresh.down, torch.full_like(fresh.up, 0.05), 2.0)
    watched = [layer.up for layer in inject(text_encoder, updates).values()]
    assert isinstance(text_encoder.encoder.layers[0].self_attn.q_proj, LowRankLayer)
    wanted = embeds_and_gradients(text_encoder, watched)
    with fused(text_encoder, everywhere=True):
        same(embeds_and_gradients(text_encoder, watched), wanted)


@pytest.mark.parametrize("options", [{"output_hidden_states": True}, {"output_attentions": True}, {"padded": True}])
def test_what_is_asked_of_transformers_is_answered_by_transformers(text_encoder, options):
    options, asked = dict(options), ids(text_encoder)
    if options.pop("padded", False):
        options["attention_mask"] = torch.ones_like(asked).index_fill(1, torch.arange(40, 77), 0)
    wanted = text_encoder(asked, **options)
    with fused(text_encoder, everywhere=True):
        found = text_encoder(asked, **options)
    assert found.keys() == wanted.keys()
    assert torch.allclose(found.last_hidden_state, wanted.last_hidden_state, atol=10 * TOLERANCE)
    assert torch.allclose(found.pooler_output, wanted.pooler_output, atol=10 * TOLERANCE)
    for one, other in zip(found.get("hidden_states", ()), wanted.get("hidden_states", ()), strict=True):
        assert torch.allclose(one, other, atol=10 * TOLERANCE)


def test_too_many_tokens_are_refused_as_transformers_does(text_encoder):
    with fused(text_encoder, everywhere=True), pytest.raises(ValueError, match="max_position_embeddings"):
        text_encoder(ids(text_encoder, 78))


def other_activation(text_encoder):
    text_encoder.encoder.layers[1].mlp.activation_fn = nn.GELU()


def eager_attention(text_encoder):
    text_encoder.set_attn_implementation("eager")


def norm_without_weights(text_encoder):
    text_encoder.encoder.layers[1].layer_norm2 = nn.LayerNorm(16, elementwise_affine=False)


def in_training_mode(text_encoder):
    text_encoder.encoder.layers[1].train()


@pytest.mark.parametrize("change", [other_activation, eager_attention, norm_without_weights, in_training_mode])
def test_an_unusual_layer_is_left_alone(text_encoder, change):
    change(text_encoder)
    wanted = encode_ids(text_encoder, ids(text_encoder))
    with fused(text_encoder, everywhere=True):
        assert "forward" not in vars(text_encoder)
        assert "forward" not in vars(text_encoder.encoder.layers[1])
        found = encode_ids(text_encoder, ids(text_encoder))
    assert torch.allclose(found, wanted, atol=10 * TOLERANCE)


def test_recorded_outputs_in_the_configuration_are_kept(text_encoder):
    text_encoder.config.output_hidden_states = True
    with fused(text_encoder, everywhere=True):
        assert len(text_encoder(ids(text_encoder)).hidden_states) == 3


def test_the_text_tower_of_a_pair_keeps_its_pooled_output(text_encoder):
    from transformers import CLIPTextModelWithProjection

    pair = CLIPTextModelWithProjection(text_encoder.config).to(DTYPE).eval()
    wanted = pair(ids(text_encoder)).text_embeds
    with fused(pair, everywhere=True):
        assert forms_of(pair) == ["CLIPEncoderLayer", "CLIPEncoderLayer"]
        assert torch.allclose(pair(ids(text_encoder)).text_embeds, wanted, atol=10 * TOLERANCE)
