"""Adapters in a diffusers pipeline: they act as limner renders with them, and leave no trace."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

import limner
from limner.adapters import attached, load_trained
from limner.artifacts import AdapterFolder
from limner.base import find_base, load_base
from limner.errors import AdapterError
from limner.exporting import export
from limner.study import run_study
from tests.studies import write_study

ALPHA = {"rank = [1, 2]\n": "rank = [1, 2]\nalpha = 5.0\ntext_encoder = true\n"}


@pytest.fixture(scope="module")
def adapters(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    run_study(write_study(folder, tiny_folder, changes=ALPHA), folder / "run", until="train")
    return folder / "run" / "adapters"


@pytest.fixture
def pipeline(tiny_folder):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline):
    """Latents after two steps (1, 4, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    asked = {"num_inference_steps": 2, "height": 64, "width": 64, "generator": generator, "output_type": "latent"}
    return pipeline("a photo of sks cat face", **asked).images


def weights(pipeline):
    return [t.clone() for module in (pipeline.unet, pipeline.text_encoder) for t in module.state_dict().values()]


def predicted(unet, text_encoder):
    """The noise and the text's embedding of some input, which says which weights act."""
    with torch.no_grad():
        text = text_encoder(torch.arange(5)[None] + 3)[0]
        return unet(torch.ones(1, 4, 8, 8), 10, text, return_dict=False)[0]


@pytest.mark.parametrize("label", ["full", "lora-2", "on top"])
def test_it_acts_as_limner_renders_with_it_until_its_block_ends(label, adapters, pipeline, tiny_folder):
    before, untouched = weights(pipeline), drawn(pipeline)
    base = load_base(find_base(str(tiny_folder)))
    with attached(base.modules(), load_trained(AdapterFolder(adapters / label)), 0.5):
        ours = predicted(base.unet, base.text_encoder)
    with limner.load_into(pipeline, adapters / label, scale=0.5) as loaded:
        assert loaded.label == label
        assert torch.equal(predicted(pipeline.unet, pipeline.text_encoder), ours)
        assert not torch.equal(drawn(pipeline), untouched)
    assert all(map(torch.equal, weights(pipeline), before))
    assert torch.equal(drawn(pipeline), untouched)


def test_an_exported_file_acts_like_the_adapter(adapters, pipeline, tmp_path):
    export(adapters / "lora-2", tmp_path / "felix.safetensors", "kohya")
    with limner.load_into(pipeline, adapters / "lora-2"):
        wanted = drawn(pipeline)
    with limner.load_into(pipeline, tmp_path / "felix.safetensors"):
        assert torch.equal(drawn(pipeline), wanted)


def test_it_takes_the_precision_of_the_pipeline(adapters, pipeline):
    pipeline.to(torch.bfloat16)
    before = weights(pipeline)
    for label in ("full", "lora-2"):
        with limner.load_into(pipeline, adapters / label):
            assert drawn(pipeline).dtype == torch.bfloat16
    assert all(map(torch.equal, weights(pipeline), before))


def test_two_at_once_are_refused_and_removing_twice_does_nothing(adapters, pipeline):
    untouched = drawn(pipeline)
    first = limner.load_into(pipeline, str(adapters / "lora-2"))
    with pytest.raises(AdapterError, match="remove it first"):
        limner.load_into(pipeline, adapters / "lora-1")
    first.remove()
    first.remove()
    assert torch.equal(drawn(pipeline), untouched)
    limner.load_into(pipeline, adapters / "lora-1").remove()


def test_what_does_not_fit_changes_nothing(adapters, pipeline, tmp_path):
    with pytest.raises(AdapterError, match="there is no"):
        limner.load_into(pipeline, tmp_path / "nothing.safetensors")
    with pytest.raises(AdapterError, match="has no unet"):
        limner.load_into(object(), adapters / "lora-2")
    pipeline.text_encoder.encoder.layers[1].self_attn.q_proj = torch.nn.Linear(4, 4)  # the UNet's updates do fit
    before = weights(pipeline)
    with pytest.raises(AdapterError, match="do not fit"):
        limner.load_into(pipeline, adapters / "lora-2")
    assert all(map(torch.equal, weights(pipeline), before))
    assert not any("original" in name for name, _ in pipeline.unet.named_modules())
