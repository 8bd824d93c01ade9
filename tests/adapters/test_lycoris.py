"""What LyCORIS' own modules save, read and merged here, against what they compute themselves."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from limner.adapters.exchange import load_foreign
from limner.adapters.exchange.changes import LowRank
from limner.adapters.exchange.merging import merged
from limner.base.inspect import inspect
from limner.errors import AdapterError

modules = pytest.importorskip("lycoris.modules", reason="LyCORIS is installed with the extra dev")

LAYERS = {
    "linear": ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0", lambda: nn.Linear(24, 16)),
    "conv": ("down_blocks.0.resnets.0.conv1", lambda: nn.Conv2d(12, 16, 3, padding=1)),
    "narrow": ("down_blocks.0.attentions.0.proj_in", lambda: nn.Conv2d(12, 16, 1)),
}
LOW_RANK = {
    "LoRA": partial(modules.LoConModule, lora_dim=3, alpha=2),
    "rank-stabilised": partial(modules.LoConModule, lora_dim=3, alpha=2, rs_lora=True),
    "LoHa": partial(modules.LohaModule, lora_dim=3, alpha=2),
    "LoKr": partial(modules.LokrModule, lora_dim=1, alpha=2, factor=4, decompose_both=True),
    "LoKr of one whole factor": partial(modules.LokrModule, lora_dim=1, alpha=2, factor=2),
    "LoKr of two": partial(modules.LokrModule, lora_dim=100, alpha=2, factor=4, full_matrix=True),
}
TUCKER = {
    "LoCon": partial(modules.LoConModule, lora_dim=3, alpha=2, use_tucker=True),
    "LoHa": partial(modules.LohaModule, lora_dim=3, alpha=2, use_tucker=True),
    "LoKr": partial(modules.LokrModule, lora_dim=2, alpha=1, factor=2, use_tucker=True),
}
MERGED = {
    "full": modules.FullModule,
    "OFT": partial(modules.DiagOFTModule, lora_dim=4),
    "OFT, constrained": partial(modules.DiagOFTModule, lora_dim=4, constraint=0.01),
}
AT_ONE = {  # programs differ in what another strength means for these
    "OFT, rescaled": partial(modules.DiagOFTModule, lora_dim=4, rescaled=True),
    "DoRA": partial(modules.LoConModule, lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=True),
    "DoRA by columns": partial(modules.LoConModule, lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=False),
    "DoRA of a LoHa": partial(modules.LohaModule, lora_dim=3, alpha=2, weight_decompose=True),
}


def made_by(make, kind, tmp_path):
    """A layer, LyCORIS' module in its place with random values, and the file that it saves."""
    torch.manual_seed(0)
    place, layer = LAYERS[kind][0], LAYERS[kind][1]()
    name = f"lora_unet_{place.replace('.', '_')}"
    own, module = copy.deepcopy(layer), make(name, layer).eval()
    module.apply_to()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter + 0.3 * torch.randn_like(parameter))
    saved = module.custom_state_dict() or module.state_dict()
    file = tmp_path / "lora.safetensors"
    save_file({f"{name}.{key}": tensor.detach().clone().contiguous() for key, tensor in saved.items()}, file)
    return place, own, module, file


@torch.no_grad()
def same_outputs(place, layer, module, file, strength):
    """Whether the layer with what was read merged into it gives what LyCORIS' module gives in its place."""
    x = torch.randn(2, 24) if isinstance(layer, nn.Linear) else torch.randn(2, 12, 7, 7)
    module.multiplier = strength
    theirs, untouched = module(x), layer(x)
    read = load_foreign(file)
    updates = {("unet", f"{name}.weight"): LowRank(u) for name, u in read.low_rank.get("unet", {}).items()}
    for (_, key), change in (updates | dict(read.changes)).items():
        own = getattr(layer, key.removeprefix(f"{place}."))
        assert change.fits(own.shape)
        own.copy_(merged(own, change, strength))
    assert (layer(x) - theirs).abs().max() < 1e-5 * theirs.abs().max()
    assert (untouched - theirs).abs().max() > 0.01 * theirs.abs().max()


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("form", [*LOW_RANK, *MERGED])
def test_a_layer_comes_out_as_lycoris_makes_it(form, kind, strength, tmp_path):
    made = made_by((LOW_RANK | MERGED)[form], kind, tmp_path)
    assert inspect(made[-1]).family == "lora-sd15"
    same_outputs(*made, strength)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("form", TUCKER)
def test_cores_of_convolutions_are_read_exactly(form, strength, tmp_path):
    made = made_by(TUCKER[form], "conv", tmp_path)
    assert "with cores" in " ".join(inspect(made[-1]).notes)
    same_outputs(*made, strength)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("form", AT_ONE)
def test_what_is_rescaled_comes_out_as_lycoris_makes_it(form, kind, tmp_path):
    same_outputs(*made_by(AT_ONE[form], kind, tmp_path), 1.0)


def test_a_norm_comes_out_as_lycoris_makes_it(tmp_path):
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 16)
    module = modules.NormModule("n", norm)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    name, place = "lora_unet_down_blocks_0_resnets_0_norm1", "down_blocks.0.resnets.0.norm1"
    file = tmp_path / "lora.safetensors"
    save_file({f"{name}.{key}": tensor.detach().clone() for key, tensor in module.state_dict().items()}, file)
    assert inspect(file).family == "lora-sd15"
    changes = load_foreign(file).changes
    assert changes.keys() == {("unet", f"{place}.weight"), ("unet", f"{place}.bias")}
    for leaf, theirs in zip(("weight", "bias"), module.make_weight(0.5), strict=True):
        ours = merged(getattr(norm, leaf).detach(), changes["unet", f"{place}.{leaf}"], 0.5)
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (partial(modules.ButterflyOFTModule, lora_dim=4), "BOFT, which is not read"),
        (partial(modules.GLoRAModule, lora_dim=3, alpha=2), "is a GLoRA, which limner does not read"),
        (modules.IA3Module, "is an IA3, which limner does not read"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(make, said, tmp_path):
    *_, file = made_by(make, "linear", tmp_path)
    assert any(form in said for form in inspect(file).notes[0].split())
    with pytest.raises(AdapterError, match=said):
        load_foreign(file)
