"""What a file is, told from its header."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import save_file

from limner.base.find import find_base
from limner.base.inspect import inspect
from limner.base.single_file.names import averaged_key
from limner.errors import BaseError
from tests.base.files import single_file_shapes, write_sparse

UNET = "model.diffusion_model."
ATTENTION = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
DIFFUSERS_ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def unet(width, channels=4, **others):
    return {UNET + "input_blocks.0.0.weight": (320, channels, 3, 3), UNET + ATTENTION: (320, width), **others}


def kohya(width, name=KOHYA, **others):
    return {f"{name}.lora_down.weight": (8, width), f"{name}.lora_up.weight": (320, 8), f"{name}.alpha": (), **others}


CLIP, OPEN_CLIP = {"cond_stage_model.transformer.text_model.x": (1,)}, {"cond_stage_model.model.x": (1,)}
FAMILIES = [
    (unet(768, **CLIP), "sd15"),
    (unet(768, **CLIP, **{f"{KOHYA}.lora_up.weight": (320, 8)}), "sd15"),  # a merge that left a LoRA's key behind
    (unet(768, 9, **CLIP), "sd15-inpainting"),
    (unet(1024, **OPEN_CLIP), "sd2"),
    (unet(1024, 9, **OPEN_CLIP), "sd2-inpainting"),
    (unet(2048, **{"conditioner.embedders.0.x": (1,), "conditioner.embedders.1.model.x": (1,)}), "sdxl"),
    (unet(1280, **{"conditioner.embedders.0.model.x": (1,)}), "sdxl-refiner"),
    ({UNET + "joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}, "sd3"),
    ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "flux"),
    ({UNET + "double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "flux"),
    ({DIFFUSERS_ATTENTION: (320, 768), "conv_in.weight": (320, 4, 3, 3)}, "sd15"),
    ({DIFFUSERS_ATTENTION: (320, 1024), "conv_in.weight": (320, 4, 3, 3)}, "sd2"),
    ({"down_blocks.1.attentions.0.x": (1,), "add_embedding.linear_1.weight": (1280, 2816)}, "sdxl"),
    (kohya(768), "lora-sd15"),
    (kohya(1024), "lora-sd2"),
    (kohya(2048, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"), "lora-sdxl"),
    (kohya(640, "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"), "lora-sdxl"),
    (kohya(3072, "lora_unet_double_blocks_0_img_attn_qkv"), "lora-other"),
    (kohya(768, "lora_te_text_model_encoder_layers_0_self_attn_q_proj"), "lora-sd15"),
    (kohya(1024, "lora_te_text_model_encoder_layers_0_self_attn_q_proj"), "lora-sd2"),
    ({f"{KOHYA}.hada_w1_a": (320, 4), f"{KOHYA}.hada_w1_b": (4, 768)}, "lora-sd15"),
    ({f"unet.{DIFFUSERS_ATTENTION.removesuffix('weight')}lora_A.weight": (4, 768)}, "lora-sd15"),
    ({f"unet.{DIFFUSERS_ATTENTION.removesuffix('to_k.weight')}processor.to_k_lora.down.weight": (4, 768)}, "lora-sd15"),
    ({"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (4, 3072)}, "lora-other"),
    ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), DIFFUSERS_ATTENTION: (320, 768)}, "controlnet-sd15"),
    ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}, "controlnet-sd15"),
    ({"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)}, "vae"),
    ({"emb_params": (4, 768)}, "textual-inversion"),
    ({"<cat>": (2, 768)}, "textual-inversion"),
    ({"some.weight": (2, 2)}, "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "family"), FAMILIES)
def test_the_family_is_told_from_names_and_shapes(shapes, family, tmp_path):
    report = inspect(write_sparse(tmp_path / "model.safetensors", shapes))
    assert report.family == family
    assert report.is_identified == (family != "unknown")


def test_the_embedded_miniature_and_its_parts(tiny_folder):
    report = inspect(tiny_folder)
    assert (report.family, report.prediction_type, report.precision) == ("sd15", "epsilon", "fp32")
    assert report.problems == []
    assert inspect(tiny_folder / "vae").family == "vae"
    assert inspect(tiny_folder / "controlnet").family == "controlnet-sd15"


def test_a_whole_file_of_four_gigabytes_takes_less_than_a_second(tmp_path):
    path = write_sparse(tmp_path / "model.safetensors", single_file_shapes(), "F32")
    assert path.stat().st_size > 4.2e9
    began = time.perf_counter()
    report = inspect(path)
    assert time.perf_counter() - began < 1
    assert (report.family, report.precision, report.layout) == ("sd15", "fp32", "original")
    assert report.parts == ["unet", "vae", "text_encoder"]
    assert report.parameter_count == 1_066_235_307  # 859.5 M + 83.7 M + 123.1 M
    assert report.problems == []


def test_moving_averages_are_no_parameters_of_their_own(tmp_path):
    shapes = single_file_shapes()
    averages = {averaged_key(key): shape for key, shape in shapes.items() if key.startswith(UNET)}
    report = inspect(write_sparse(tmp_path / "model.safetensors", shapes | averages | {"model_ema.decay": ()}))
    assert report.parameter_count == 1_066_235_308
    assert "--ema" in report.notes[0]


def test_what_is_missing_is_a_problem_and_the_file_still_identified(tmp_path):
    shapes = single_file_shapes(("unet", "text_encoder"))
    del shapes[UNET + "out.2.weight"]
    shapes[UNET + "strange.weight"] = (1,)
    report = inspect(write_sparse(tmp_path / "model.safetensors", shapes))
    assert report.family == "sd15"
    assert [problem[:20] for problem in report.problems] == [
        "no VAE in it: give o", "1 of the unet's weig", "1 weights have no pl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "keys", "prediction"),
    [
        ({}, {}, "epsilon"),
        ({"modelspec.prediction_type": "v"}, {}, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, {}, "epsilon"),
        ({"ss_v_parameterization": "True"}, {}, "v_prediction"),
        ({}, {"v_pred": ()}, "v_prediction"),
    ],
)
def test_the_prediction_type_and_how_it_is_known(metadata, keys, prediction, tmp_path):
    report = inspect(write_sparse(tmp_path / "model.safetensors", unet(768) | keys, metadata=metadata))
    assert report.prediction_type == prediction
    assert report.prediction_type_from != "not stated"


def test_sd2_says_that_its_prediction_type_is_not_stated(tmp_path):
    report = inspect(write_sparse(tmp_path / "model.safetensors", unet(1024)))
    assert report.prediction_type is None
    assert "equal shapes" in report.prediction_type_from


def test_a_loras_words_rank_and_training_are_told(tmp_path):
    metadata = {"ss_tag_frequency": json.dumps({"10_sks woman": {"a": 1}}), "ss_network_dim": "8", "ss_seed": "None"}
    report = inspect(write_sparse(tmp_path / "lora.safetensors", kohya(768), metadata=metadata))
    assert report.trigger_words == ["sks woman"]
    assert report.training == {"rank": "8"}
    assert "rank 8" in report.notes
    assert report.layout == "kohya"


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_file_cut_off_in_its_data_is_identified_and_called_truncated(cut, tmp_path):
    path = write_sparse(tmp_path / "model.safetensors", single_file_shapes())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    report = inspect(path)
    assert report.family == "sd15"
    assert "truncated" in report.problems[0]
    with pytest.raises(BaseError, match="truncated"):
        find_base(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n0000", "PNG picture"),
        (b"GGUF0000", "GGUF"),
        (b"abc", "truncated"),
        (b"\xff\xff\0\0\0\0\0\0{", "truncated in its header"),
        (b"\xff" * 8 + b"{", "header would take"),
        (b"\2\0\0\0\0\0\0\0[]", "neither"),
        (b"\2\0\0\0\0\0\0\0{]", "not JSON"),
        (b"nothing of the kind", "neither"),
    ],
)
def test_wreckage_is_said_to_be_what_it_is(content, said, tmp_path, limner):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    outcome = limner("inspect", path, "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 2
    assert report["family"] == "unknown"
    assert said in report["problems"][0]
    with pytest.raises(BaseError, match=said):
        find_base(str(path))


def test_the_command_says_the_fields_that_other_programs_read(tmp_path, limner):
    outcome = limner("inspect", write_sparse(tmp_path / "m.safetensors", single_file_shapes()), "--json")
    assert outcome.code == 0
    assert {"family", "prediction_type", "precision", "parameter_count", "problems"} <= json.loads(outcome.out).keys()
    assert "Stable Diffusion 1.5" in limner("inspect", tmp_path / "m.safetensors").out


@pytest.mark.parametrize(("shapes", "family"), {family: (shapes, family) for shapes, family in FAMILIES}.values())
def test_the_command_tells_every_family(shapes, family, tmp_path, limner):
    outcome = limner("inspect", write_sparse(tmp_path / "m.safetensors", shapes), "--json")
    told = json.loads(outcome.out)
    assert (outcome.code, told["family"]) == (2 if family == "unknown" else 0, family)
    assert told["parameter_count"] > 0
    assert told["precision"]


@pytest.mark.parametrize(("shapes", "family"), [case for case in FAMILIES if case[1] not in ("sd15", "unknown")])
def test_a_base_of_another_family_is_refused_with_that_sentence(shapes, family, tmp_path):
    path = write_sparse(tmp_path / "model.safetensors", shapes)
    with pytest.raises(BaseError, match=r"is .*; limner trains and renders Stable Diffusion 1.5 only"):
        find_base(str(path))


def test_a_folder_of_another_family_is_refused(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "base")
    config = json.loads((tiny_folder / "unet" / "config.json").read_text())
    (tmp_path / "base" / "unet" / "config.json").write_text(json.dumps(config | {"cross_attention_dim": 1024}))
    assert inspect(tmp_path / "base").family == "sd2"
    with pytest.raises(BaseError, match="is Stable Diffusion 2; limner trains"):
        find_base(str(tmp_path / "base"))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_is_read_without_being_run(legacy, tmp_path):
    shapes = {"conv_in.weight": (320, 9, 3, 3), DIFFUSERS_ATTENTION: (32, 768), "x": (), "y": (7,)}
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    path = tmp_path / "model.ckpt"
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    report = inspect(path)
    assert (report.family, report.precision) == ("sd15-inpainting", "fp16")
    assert report.parameter_count == sum(tensor.numel() for tensor in tensors.values())
    assert "pickle" in report.problems[0]


def test_a_checkpoint_that_calls_strange_functions_is_named(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit(3)",))

    torch.save({"conv_in.weight": torch.zeros(320, 4, 3, 3), "evil": Evil()}, tmp_path / "evil.ckpt")
    report = inspect(tmp_path / "evil.ckpt")
    assert any("exec" in problem for problem in report.problems)


def test_shards_count_together(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / "base")
    from safetensors.torch import load_file

    whole = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = list(load_file(whole).items())
    whole.unlink()
    for number, part in enumerate((tensors[:100], tensors[100:]), 1):
        save_file(dict(part), whole.with_name(f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"))
    assert inspect(tmp_path / "base").parameter_count == inspect(tiny_folder).parameter_count
