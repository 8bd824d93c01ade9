"""LoRAs of other programs: names by the rules, every form read exactly, every key accounted for."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from limner.adapters import Adapter, LowRankUpdates, attached, target_layers
from limner.adapters.exchange import load_foreign, save_bin, save_diffusers, save_kohya
from limner.adapters.exchange.merging import merged
from limner.adapters.exchange.names import kernel_px, layers
from limner.adapters.low_rank import LowRankUpdate, initial_update
from limner.base.inspect import inspect
from limner.base.single_file.names import TO_ORIGINAL
from limner.errors import AdapterError
from tests.adapters.test_adapter import random_low_rank, unet_output
from tests.base.files import sd15_shapes

TRANSFORMER = "down_blocks.0.attentions.0.transformer_blocks.0"


def kohyas_own_names() -> set[str]:
    """What kohya's `LoRANetwork` names for SD 1.5: every Linear and 1x1 convolution in a Transformer2DModel, and every
    Linear in CLIPAttention and CLIPMLP, the path with underscores (networks/lora.py, `create_modules`)."""
    shapes = sd15_shapes()
    unet = {
        key.removesuffix(".weight")
        for key, shape in shapes["unet"].items()
        if ".attentions." in key and key.endswith(".weight") and len(shape) > 1
    }
    text = {
        key.removesuffix(".weight")
        for key, shape in shapes["text_encoder"].items()
        if (".self_attn." in key or ".mlp." in key) and key.endswith(".weight") and len(shape) > 1
    }
    names = {f"lora_unet_{name.replace('.', '_')}" for name in unet}
    return names | {f"lora_te_text_model_{name.replace('.', '_')}" for name in text}


def sd15_low_rank(rank=2):
    """Updates of every layer that kohya trains, in SD 1.5's shapes."""
    shapes, low_rank = sd15_shapes(), {"unet": {}, "text_encoder": {}}
    for module, own in low_rank.items():
        for layer in layers(module):
            shape = shapes[module].get(f"{layer}.weight")
            inside = ".attentions." in layer or module == "text_encoder"
            if shape and inside:
                kernel = shape[2:]
                own[layer] = LowRankUpdate(
                    torch.zeros(rank, shape[1], *kernel), torch.zeros(shape[0], rank, *kernel), 1.0
                )
    return low_rank


def test_the_files_keys_and_shapes_are_those_of_kohyas_naming_rules(tmp_path):
    save_kohya(tmp_path / "lora.safetensors", sd15_low_rank(), {})
    names = kohyas_own_names()
    assert len(names) == 192 + 72  # what its trainer prints for SD 1.5
    tensors = load_file(tmp_path / "lora.safetensors")
    wanted = {f"{name}.{leaf}" for name in names for leaf in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert tensors.keys() == wanted
    stem = f"lora_unet_{TRANSFORMER.replace('.', '_')}_ff_net_0_proj"
    assert tensors[f"{stem}.lora_down.weight"].shape == (2, 320)
    assert tensors[f"{stem}.lora_up.weight"].shape == (2560, 2)
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape == (2, 1280, 1, 1)
    assert tensors[f"{stem}.alpha"].shape == ()


def test_kernels_follow_from_names():
    shapes = sd15_shapes()["unet"]
    for layer in layers("unet"):
        if (shape := shapes.get(f"{layer}.weight")) is not None:  # a shortcut is there only where channels change
            assert kernel_px("unet", layer) == (shape[-1] if len(shape) == 4 else 0), layer


def same(one, other, *, exactly=True):
    assert one.keys() == other.keys()
    for module, updates in one.items():
        assert updates.keys() == other[module].keys()
        for name, update in updates.items():
            peer = other[module][name]
            assert update.down.shape == peer.down.shape
            product = [delta(each) for each in (update, peer)]
            assert torch.equal(*product) if exactly else torch.allclose(*product, atol=1e-5), name


def delta(update: LowRankUpdate) -> torch.Tensor:
    return update.scale * update.up.flatten(1).float() @ update.down.flatten(1).float()


@pytest.mark.parametrize("targets", ["attention", "transformer", "all"])
@pytest.mark.parametrize("save", [save_kohya, save_diffusers])
def test_what_is_written_is_read_back(save, targets, tiny_base, tmp_path):
    low_rank = random_low_rank(tiny_base, rank=3, alpha=5.0, targets=targets)
    save(tmp_path / "lora.safetensors", low_rank, {"a": "b"})
    read = load_foreign(tmp_path / "lora.safetensors")
    same(low_rank, read.low_rank)
    assert read.metadata["a"] == "b"


@pytest.mark.parametrize("targets", ["attention", "transformer", "all"])
@pytest.mark.parametrize("form", ["kohya", "diffusers", "bin"])
def test_diffusers_loads_what_we_write_to_the_same_pictures(form, targets, tiny_base, tiny_folder, tmp_path):
    from diffusers import StableDiffusionPipeline

    low_rank = random_low_rank(tiny_base, rank=2, alpha=5.0, targets=targets)
    name = {"bin": "pytorch_lora_weights.bin"}.get(form, "pytorch_lora_weights.safetensors")
    if form == "bin":
        save_bin(tmp_path / name, low_rank)
    else:
        (save_kohya if form == "kohya" else save_diffusers)(tmp_path / name, low_rank, {})
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder)
    pipeline.load_lora_weights(tmp_path, weight_name=name, use_safetensors=form != "bin")
    embeds, _ = pipeline.encode_prompt("a photo of sks cat", "cpu", 1, False)
    with torch.no_grad():
        theirs = pipeline.unet(torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8), 500, embeds).sample
    with attached(tiny_base.modules(), Adapter.of("lora", LowRankUpdates(low_rank))):
        ours = unet_output(tiny_base)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert not torch.allclose(ours, unet_output(tiny_base), atol=1e-3)


SPELLINGS = {
    "kohya": ("lora_unet_{flat}.lora_down.weight", "lora_te_text_model_{text_flat}.lora_down.weight"),
    "kohya of SDXL's habit": ("lora_unet_{flat}.lora_down.weight", "lora_te1_text_model_{text_flat}.lora_down.weight"),
    "original layout": ("lora_unet_{original}.lora_down.weight", "lora_te_text_model_{text_flat}.lora_down.weight"),
    "diffusers": ("unet.{name}.lora_A.weight", "text_encoder.{text}.lora_A.weight"),
    "diffusers 0.2x": ("unet.{name}.lora.down.weight", "text_encoder.text_model.{text}.lora_linear_layer.down.weight"),
    "attention processors": (
        "unet.{processor}_lora.down.weight", "text_encoder.text_model.{text_old}_lora.down.weight",
    ),
    "processors alone": ("{processor}_lora.down.weight", None),
    "PEFT": ("base_model.model.{name}.lora_A.weight", "base_model.model.text_model.{text}.lora_A.weight"),
    "PEFT with its adapter's name": ("base_model.model.{name}.lora_A.default.weight", None),
}  # fmt: skip


def spelt(pattern: str, name: str, text: str) -> str:
    head, _, last = name.rpartition("attn1.")
    processor = f"{head}attn1.processor.{last.removesuffix('.0')}" if last else ""
    text_old = text.replace("q_proj", "to_q").replace("out_proj", "to_out")
    return pattern.format(
        flat=name.replace(".", "_"), name=name, processor=processor, text=text, text_flat=text.replace(".", "_"),
        text_old=text_old, original=TO_ORIGINAL["unet"][name].replace(".", "_"),
    )  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("projection", ["to_q", "to_out.0"])
def test_every_spelling_of_a_layer_is_understood(spelling, projection, tmp_path):
    name, text = f"{TRANSFORMER}.attn1.{projection}", "encoder.layers.3.self_attn.out_proj"
    down, up = torch.randn(4, 320), torch.randn(320, 4)
    tensors = {}
    for pattern in filter(None, SPELLINGS[spelling]):
        key = spelt(pattern, name, text)
        tensors |= {
            key: down,
            key.replace("lora_A", "lora_B").replace("down", "up").replace("up_blocks", "down_blocks"): up,
        }
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "lora.safetensors")
    read = load_foreign(tmp_path / "lora.safetensors").low_rank
    update = read["unet"][name]
    assert torch.equal(update.down, down)
    assert torch.equal(update.up, up)
    assert update.scale == 1.0  # no alpha anywhere
    assert (SPELLINGS[spelling][1] is None) or list(read["text_encoder"]) == [text]


def test_pefts_alpha_lies_in_the_file_beside(tmp_path):
    name = f"base_model.model.{TRANSFORMER}.attn1.to_q"
    save_file(
        {f"{name}.lora_A.weight": torch.randn(4, 320), f"{name}.lora_B.weight": torch.randn(320, 4)},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "r": 4, "alpha_pattern": {}}))
    assert load_foreign(tmp_path).low_rank["unet"][f"{TRANSFORMER}.attn1.to_q"].scale == 2.0


def one_layer(tmp_path, tensors, name=f"{TRANSFORMER}.attn2.to_k", alpha=2.0):
    stem = f"lora_unet_{name.replace('.', '_')}"
    save_file(
        {f"{stem}.{key}": tensor for key, tensor in tensors.items()} | {f"{stem}.alpha": torch.tensor(alpha)},
        tmp_path / "lora.safetensors",
    )
    return load_foreign(tmp_path / "lora.safetensors").low_rank["unet"][name]


def test_a_loha_is_read_exactly(tmp_path):
    a1, b1, a2, b2 = torch.randn(6, 3), torch.randn(3, 8), torch.randn(6, 3), torch.randn(3, 8)
    update = one_layer(tmp_path, {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2})
    assert torch.allclose(delta(update), (a1 @ b1) * (a2 @ b2) * 2.0 / 3, atol=1e-5)


@pytest.mark.parametrize("whole", ["neither", "first", "second", "both"])
def test_a_lokr_is_read_exactly(whole, tmp_path):
    first, second = (torch.randn(3, 2), torch.randn(2, 2)), (torch.randn(4, 2), torch.randn(2, 5))
    tensors = {"lokr_w1_a": first[0], "lokr_w1_b": first[1], "lokr_w2_a": second[0], "lokr_w2_b": second[1]}
    if whole in ("first", "both"):
        tensors = {key: t for key, t in tensors.items() if "w1" not in key} | {"lokr_w1": first[0] @ first[1]}
    if whole in ("second", "both"):
        tensors = {key: t for key, t in tensors.items() if "w2" not in key} | {"lokr_w2": second[0] @ second[1]}
    update = one_layer(tmp_path, tensors)
    scale = 1.0 if whole == "both" else 2.0 / 2
    assert torch.allclose(delta(update), torch.kron(first[0] @ first[1], second[0] @ second[1]) * scale, atol=1e-5)


def test_a_convolutions_loha_and_lokr_are_read_exactly(tmp_path):
    name = "down_blocks.0.resnets.0.conv1"
    a1, b1, a2, b2 = torch.randn(6, 2), torch.randn(2, 4 * 9), torch.randn(6, 2), torch.randn(2, 4 * 9)
    update = one_layer(tmp_path, {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}, name)
    assert update.down.shape == (4, 4, 3, 3)
    assert torch.allclose(delta(update), (a1 @ b1) * (a2 @ b2), atol=1e-5)
    w1, w2 = torch.randn(2, 2), torch.randn(3, 4, 3, 3)
    update = one_layer(tmp_path, {"lokr_w1": w1, "lokr_w2": w2}, name)
    wanted = torch.einsum("ab,cdkl->acbdkl", w1, w2).reshape(6, 8 * 9)
    assert torch.allclose(delta(update), wanted, atol=1e-5)


def test_cores_of_a_convolutions_loha_and_lokr_are_folded_in(tmp_path):
    name = "down_blocks.0.resnets.0.conv1"
    a1, b1, t1 = torch.randn(2, 6), torch.randn(2, 4), torch.randn(2, 2, 3, 3)
    a2, b2, t2 = torch.randn(2, 6), torch.randn(2, 4), torch.randn(2, 2, 3, 3)
    tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_t1": t1, "hada_w2_a": a2, "hada_w2_b": b2, "hada_t2": t2}
    update = one_layer(tmp_path, tensors, name)
    one, two = (torch.einsum("io,jp,ijkl->opkl", a, b, t) for a, b, t in ((a1, b1, t1), (a2, b2, t2)))
    assert torch.allclose(delta(update), (one * two).flatten(1), atol=1e-4)
    first = torch.randn(3, 2)
    update = one_layer(tmp_path, {"lokr_w1": first, "lokr_w2_a": a2, "lokr_w2_b": b2, "lokr_t2": t2}, name)
    wanted = torch.stack([torch.kron(first, two[:, :, y, x]) for y in range(3) for x in range(3)], -1)
    assert torch.allclose(delta(update), wanted.flatten(1), atol=1e-4)


def test_what_turns_and_what_adds_whole_tensors_can_only_be_merged(tmp_path):
    stem, place = "oft_unet_mid_block_attentions_0_proj_in", "mid_block.attentions.0.proj_in"  # kohya's name
    blocks, weight = torch.randn(3, 2, 2), torch.randn(6, 4, 1, 1)
    save_file({f"{stem}.oft_blocks": blocks, f"{stem}.alpha": torch.tensor(0.1)}, tmp_path / "oft.safetensors")
    read = load_foreign(tmp_path / "oft.safetensors")
    skew = blocks - blocks.transpose(1, 2)
    skew = skew * min(1.0, 0.1 * 6 / float(skew.norm()))
    whole = torch.block_diag(*((torch.eye(2) + each) @ (torch.eye(2) - each).inverse() for each in skew))
    assert torch.allclose(whole @ whole.T, torch.eye(6), atol=1e-6)
    turned = merged(weight, read.changes["unet", f"{place}.weight"], 1.0)
    assert torch.allclose(turned.flatten(1), whole.T @ weight.flatten(1), atol=1e-6)
    with pytest.raises(AdapterError, match=r"is an OFT: it turns the base's weights.*merge it first"):
        read.adapter()
    norm, difference = "lora_te_text_model_final_layer_norm", torch.randn(6, 4)
    tensors = {f"{norm}.w_norm": torch.ones(8), f"{norm}.b_norm": torch.ones(8)}
    stem = stem.replace("oft", "lora")
    tensors |= {f"{stem}.diff": difference, f"{stem}.diff_b": torch.ones(6)}
    save_file(tensors, tmp_path / "full.safetensors")
    assert "its form is full differences" in inspect(tmp_path / "full.safetensors").notes
    changes = load_foreign(tmp_path / "full.safetensors").changes
    assert torch.equal(merged(weight, changes["unet", f"{place}.weight"], 1.0), weight + difference[:, :, None, None])
    assert torch.equal(merged(torch.zeros(6), changes["unet", f"{place}.bias"], 0.5), torch.full((6,), 0.5))
    assert {key for module, key in changes if module == "text_encoder"} == {
        "final_layer_norm.weight", "final_layer_norm.bias",
    }  # fmt: skip


def test_a_locons_core_is_folded_in(tmp_path):
    down, mid, up = torch.randn(3, 5, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(7, 3, 1, 1)
    tensors = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    update = one_layer(tmp_path, tensors, "down_blocks.0.resnets.0.conv1", alpha=3.0)
    x, conv = torch.randn(1, 5, 8, 8), torch.nn.functional.conv2d
    theirs = conv(conv(conv(x, down), mid, padding=1), up)
    assert torch.allclose(conv(conv(x, update.down, padding=1), update.up), theirs, atol=1e-3)


def test_a_dora_is_recognised_and_not_loaded_as_if_it_were_none(tmp_path):
    name = f"lora_unet_{TRANSFORMER.replace('.', '_')}_attn2_to_k"
    tensors = {
        "lora_down.weight": torch.randn(2, 768),
        "lora_up.weight": torch.randn(320, 2),
        "dora_scale": torch.ones(320, 1),
    }
    save_file({f"{name}.{key}": t for key, t in tensors.items()}, tmp_path / "dora.safetensors")
    with pytest.raises(AdapterError, match="is a DoRA"):
        load_foreign(tmp_path / "dora.safetensors").adapter()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"lora_unet_no_such_layer.lora_down.weight": torch.ones(2, 2)},
            "1 of 4 keys find no place in SD 1.5: lora_unet_no",
        ),
        ({"lora_unet_mid_block_resnets_0_norm1.lora_up.weight": torch.ones(2, 2)}, "1 of 4 keys find no place"),
        ({"lora_unet_mid_block_attentions_0_proj_in.oft_diag": torch.ones(2, 2, 2)}, "an OFT of LyCORIS' first"),
        ({f"lora_unet_{TRANSFORMER.replace('.', '_')}_attn2_to_k.diff": torch.ones(320, 768)}, "at once"),
        ({"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(2, 2)}, "down is missing"),
    ],
)
def test_what_finds_no_place_is_named(change, said, tmp_path):
    name = f"lora_unet_{TRANSFORMER.replace('.', '_')}_attn2_to_k"
    good = {f"{name}.lora_down.weight": torch.ones(2, 768), f"{name}.lora_up.weight": torch.ones(320, 2)}
    save_file(good | {f"{name}.alpha": torch.tensor(1.0)} | change, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match=said):
        load_foreign(tmp_path / "lora.safetensors")


def test_ranks_that_differ_are_said(tmp_path):
    with pytest.raises(AdapterError, match="do not fit each other"):
        one_layer(tmp_path, {"lora_down.weight": torch.ones(3, 768), "lora_up.weight": torch.ones(320, 2)})


def test_another_familys_lora_is_refused_by_its_name(tmp_path):
    tensors = {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 1280)}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match="is LoRA of SDXL; here a LoRA of"):
        load_foreign(tmp_path / "lora.safetensors")


def test_the_header_says_alpha_and_the_same_input_gives_the_same_bytes(tiny_base, tmp_path):
    names = target_layers(tiny_base.unet, "attention")
    layer = dict(tiny_base.unet.named_modules())[names[0]]
    low_rank = {"unet": {names[0]: initial_update(layer, 2, 5.0, 0, 0)}}
    for name in ("one", "two"):
        save_diffusers(tmp_path / name, low_rank, {"z": "1", "a": "2"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", "pt") as file:
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == 5.0
