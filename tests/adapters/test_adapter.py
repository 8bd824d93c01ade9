"""Attaching and storing adapters."""

from __future__ import annotations

import pytest
import torch

from limner.adapters import (
    Adapter,
    LowRankUpdates,
    WholeWeights,
    attached,
    inject,
    load_adapter,
    save_adapter,
    target_layers,
)
from limner.adapters.low_rank import LowRankUpdate, initial_update
from limner.base import encode_prompts
from limner.errors import AdapterError


def random_low_rank(base, rank=2, alpha=5.0, targets="attention", modules=("unet", "text_encoder"), seed=1):
    """Updates with nothing zero in them, for every target layer."""
    generator = torch.Generator().manual_seed(seed)
    low_rank = {}
    for module in modules:
        layers = dict(base.modules()[module].named_modules())
        low_rank[module] = {}
        for index, name in enumerate(target_layers(base.modules()[module], targets)):
            fresh = initial_update(layers[name], rank, alpha, seed=0, index=index)
            up = torch.randn(fresh.up.shape, generator=generator) * 0.2
            low_rank[module][name] = LowRankUpdate(fresh.down, up, alpha)
    return low_rank


def unet_output(base):
    """UNet output (1, 4, 8, 8) for fixed input."""
    prompt_embeds = encode_prompts(base.tokenizer, base.text_encoder, ["a photo of sks cat"])
    latents = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)
    with torch.no_grad():
        return base.unet(latents, 500, prompt_embeds).sample


@pytest.mark.parametrize("targets", ["attention", "transformer", "all"])
def test_a_fresh_update_changes_nothing_and_a_removed_one_leaves_no_trace(tiny_base, targets):
    before = unet_output(tiny_base)
    layers = dict(tiny_base.unet.named_modules())
    names = target_layers(tiny_base.unet, targets)
    fresh = {name: initial_update(layers[name], 2, 2.0, 0, i) for i, name in enumerate(names)}
    with attached(tiny_base.modules(), Adapter.of("fresh", LowRankUpdates({"unet": fresh}))):
        assert torch.allclose(unet_output(tiny_base), before, atol=1e-6)
    with attached(tiny_base.modules(), Adapter.of("lora", LowRankUpdates(random_low_rank(tiny_base, targets=targets)))):
        assert not torch.allclose(unet_output(tiny_base), before, atol=1e-3)
    assert torch.equal(unet_output(tiny_base), before)


def test_more_targets_are_supersets(tiny_base):
    attention, transformer, everything = (
        set(target_layers(tiny_base.unet, t)) for t in ("attention", "transformer", "all")
    )
    assert attention < transformer < everything


def test_full_weights_are_put_back_bit_for_bit(tiny_base):
    before = unet_output(tiny_base)
    state = {name: tensor + 0.01 for name, tensor in tiny_base.unet.state_dict().items()}
    with attached(tiny_base.modules(), Adapter.of("full", WholeWeights({"unet": state}))):
        assert not torch.equal(unet_output(tiny_base), before)
    assert torch.equal(unet_output(tiny_base), before)


def test_storing_keeps_alpha_and_every_bit(tiny_base, tmp_path):
    adapter = Adapter.of("lora", LowRankUpdates(random_low_rank(tiny_base, rank=3, alpha=5.0)))
    save_adapter(tmp_path, adapter)
    loaded = load_adapter(tmp_path)
    for module, updates in adapter.low_rank.items():
        for name, update in updates.items():
            assert torch.equal(loaded.low_rank[module][name].down, update.down)
            assert torch.equal(loaded.low_rank[module][name].up, update.up)
            assert loaded.low_rank[module][name].alpha == 5.0


@pytest.mark.parametrize("targets", ["attention", "transformer", "all"])
def test_diffusers_loads_the_stored_file_to_the_same_pictures(tiny_base, tiny_folder, tmp_path, targets):
    from diffusers import StableDiffusionPipeline

    adapter = Adapter.of("lora", LowRankUpdates(random_low_rank(tiny_base, rank=2, alpha=5.0, targets=targets)))
    save_adapter(tmp_path, adapter)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipeline.load_lora_weights(tmp_path)
    embeds, _ = pipeline.encode_prompt("a photo of sks cat", "cpu", 1, False)
    with torch.no_grad():
        theirs = pipeline.unet(torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8), 500, embeds).sample
    with attached(tiny_base.modules(), adapter):
        assert torch.allclose(unet_output(tiny_base), theirs, atol=1e-5)


def test_an_update_that_does_not_fit_is_refused_before_anything_changes(tiny_base):
    names = target_layers(tiny_base.unet, "attention")
    good = initial_update(dict(tiny_base.unet.named_modules())[names[0]], 2, 2.0, 0, 0)
    before = unet_output(tiny_base)
    with pytest.raises(AdapterError, match="1 of 2 updates do not fit"):
        inject(tiny_base.unet, {names[0]: good, "no.such.layer": good})
    assert torch.equal(unet_output(tiny_base), before)


@pytest.mark.parametrize("fault", ["shape", "missing"])
def test_where_the_second_modules_weights_do_not_fit_the_first_is_put_back(tiny_base, fault):
    before = unet_output(tiny_base)
    unet = {name: tensor + 0.01 for name, tensor in tiny_base.unet.state_dict().items()}
    text_encoder = dict(tiny_base.text_encoder.state_dict())
    name = next(iter(text_encoder))
    if fault == "shape":
        text_encoder[name] = torch.zeros(3, 3)
    else:
        del text_encoder[name]
    adapter = Adapter.of("full", WholeWeights({"unet": unet, "text_encoder": text_encoder}))
    with (
        pytest.raises(AdapterError, match="full weights do not fit this base: 1"),
        attached(tiny_base.modules(), adapter),
    ):
        pass
    assert torch.equal(unet_output(tiny_base), before)


def test_transformers_loads_full_weights_as_they_are_stored(tiny_base, tiny_folder, tmp_path):
    import shutil

    from transformers import CLIPTextModel

    state = {name: tensor + 0.01 for name, tensor in tiny_base.text_encoder.state_dict().items()}
    save_adapter(tmp_path, Adapter.of("full", WholeWeights({"text_encoder": state})))
    folder = tmp_path / "theirs"
    folder.mkdir()
    shutil.copy(tiny_folder / "text_encoder" / "config.json", folder)
    shutil.copy(tmp_path / "text_encoder.safetensors", folder / "model.safetensors")
    theirs = CLIPTextModel.from_pretrained(folder).state_dict()
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state.items())
