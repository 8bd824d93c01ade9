"""Results as other programs read them, each rendered again through diffusers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from limner.adapters import load_trained
from limner.adapters.exchange import load_foreign
from limner.artifacts import AdapterFolder
from limner.base.inspect import inspect
from limner.errors import AdapterError, BaseError, DiskError, InputError
from limner.exporting import export
from limner.exporting.check import render_again

TOLERANCE = 1e-5  # of the largest latent, for each step taken
STEPS = 2


def proved(source, exported, most=TOLERANCE * STEPS):
    """Render the cell again; the difference must be within fp32's."""
    difference = render_again(source, exported, steps=STEPS)
    assert difference.latents <= most
    return difference


@pytest.mark.parametrize(
    ("label", "form", "name"),
    [
        ("lora-2", "diffusers", "out"),
        ("lora-2", "kohya", "out.safetensors"),
        ("lora-2", "merged", "out"),
        ("lora-2", "merged", "out.safetensors"),
        ("lora-2", "single-file", "out.safetensors"),
        ("full", "diffusers", "out"),
        ("full", "merged", "out"),
        ("full", "single-file", "out.safetensors"),
        ("on top", "diffusers", "out"),
        ("on top", "kohya", "out"),
        ("on top", "merged", "out.safetensors"),
    ],
)
def test_what_is_exported_renders_the_same_through_diffusers(label, form, name, run, tmp_path):
    source, exported = export(run / "adapters" / label, tmp_path / name, form, dtype=torch.float32)
    proved(source, exported)
    card = tmp_path / name / "README.md" if (tmp_path / name).is_dir() else tmp_path / "out.md"
    assert 'base_model: "base"' in card.read_text()
    assert "widget:" in card.read_text()


def test_the_proof_can_fail(run, tmp_path):
    source, exported = export(run / "adapters" / "lora-2", tmp_path / "lora.safetensors", "kohya")
    changed = {k: t * 300 if "lora_up" in k else t for k, t in load_file(tmp_path / "lora.safetensors").items()}
    save_file(changed, tmp_path / "lora.safetensors")
    assert render_again(source, exported, steps=STEPS).latents > 100 * TOLERANCE


@pytest.mark.parametrize("form", ["diffusers", "kohya", "merged"])
def test_strength_means_the_same_in_every_form(form, run, tmp_path):
    source, exported = export(run / "adapters" / "lora-2", tmp_path / "out", form, strength=0.5)
    proved(source, exported)


def test_the_legacy_pickle_keeps_the_scale(run, tmp_path):
    source, exported = export(run / "adapters" / "lora-2", tmp_path / "out", "diffusers", legacy_bin=True)
    assert exported.lora == tmp_path / "out" / "pytorch_lora_weights.bin"
    proved(source, exported)


def test_half_precision_is_what_it_says(run, tmp_path):
    source, exported = export(run / "adapters" / "lora-2", tmp_path / "l.safetensors", "kohya", dtype=torch.float16)
    assert inspect(tmp_path / "l.safetensors").precision == "fp16"
    proved(source, exported, most=1e-2)


def test_alpha_and_the_run_are_in_the_header(run, tmp_path):
    export(run / "adapters" / "lora-2", tmp_path / "felix.safetensors", "kohya")
    with safe_open(tmp_path / "felix.safetensors", "pt") as file:
        said = file.metadata()
    assert said["ss_v2"] == "False"
    assert said["ss_base_model_version"] == "sd_v1"
    assert said["ss_network_module"] == "networks.lora"
    assert (said["ss_network_dim"], said["ss_network_alpha"]) == ("2", "5")
    assert said["ss_learning_rate"] == "0.01"
    assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert said["modelspec.trigger_phrase"] == "sks cat face"
    assert said["modelspec.license"] == "other"
    assert (said["ss_sd_model_name"], said["ss_max_train_steps"], said["ss_seed"]) == ("base", "3", "0")
    assert json.loads(said["limner.settings"])["targets"] == "attention"
    assert said["limner.identifier"] == "sks"
    assert said["limner.instance_prompt"] == "a photo of sks cat face"
    assert len(said["limner.base_hash"]) == 64
    report = inspect(tmp_path / "felix.safetensors")
    assert (report.family, report.trigger_words) == ("lora-sd15", ["sks cat face"])
    same = load_foreign(tmp_path / "felix.safetensors").low_rank
    trained = load_trained(AdapterFolder(run / "adapters" / "lora-2")).low_rank
    assert same["unet"].keys() == trained["unet"].keys()
    assert all(update.alpha == 5.0 for update in same["text_encoder"].values())


def test_the_same_adapter_gives_the_same_bytes(run, tmp_path):
    for name in ("one", "two"):
        export(run / "adapters" / "lora-2", tmp_path / name / "felix.safetensors", "kohya")
    one, two = (tmp_path / name / "felix.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_the_card_tells_nothing_of_where_files_lay(run, tiny_folder, tmp_path):
    export(run / "adapters" / "full", tmp_path / "out", "diffusers")
    text = (tmp_path / "out" / "README.md").read_text()
    assert str(tiny_folder.parent) not in text
    assert (tmp_path / "out" / "images" / "0.png").is_file()
    assert 'instance_prompt: "a photo of sks cat face"' in text
    assert 'base_model: "base"\nlicense: "other"' in text
    assert '- text: "a photo of sks cat face"\n  output:\n    url: "images/0.png"' in text


def test_a_lora_on_top_of_a_full_result_never_goes_alone(run, tmp_path):
    with pytest.raises(AdapterError, match="was trained on top of a full result"):
        export(run / "adapters" / "on top", tmp_path / "lora.safetensors", "kohya")
    assert not list(tmp_path.iterdir())
    export(run / "adapters" / "on top", tmp_path / "out", "kohya")
    base = load_file(tmp_path / "out" / "on top-base.safetensors")
    trained = load_file(run / "adapters" / "full" / "unet.safetensors")
    assert torch.equal(base["model.diffusion_model.out.2.weight"], trained["conv_out.weight"])


def test_another_programs_lora_goes_through(run, tiny_folder, tmp_path):
    export(run / "adapters" / "lora-2", tmp_path / "theirs.safetensors", "kohya")
    source, exported = export(tmp_path / "theirs.safetensors", tmp_path / "ours", "diffusers", base=str(tiny_folder))
    proved(source, exported)
    card = (tmp_path / "ours" / "README.md").read_text()
    assert "converted with limner" in card
    assert "In a prompt the subject is `sks cat face`." in card  # as their file says
    source, exported = export(tmp_path / "theirs.safetensors", tmp_path / "plain", "diffusers")
    with pytest.raises(BaseError, match="name it with --base"):
        export(tmp_path / "theirs.safetensors", tmp_path / "merged", "merged")


def test_a_merged_dora_has_the_lengths_it_learnt(run, tiny_folder, tmp_path):
    """Against PEFT's own DoRA."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    unet = UNet2DConditionModel.from_pretrained(tiny_folder / "unet")
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=[name], use_dora=True), unet)
    layer = unet.get_submodule(name)
    torch.manual_seed(0)
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    magnitude = layer.lora_magnitude_vector["default"].weight
    magnitude.data *= 1.5
    stem = f"lora_unet_{name.replace('.', '_')}"
    tensors = {
        f"{stem}.lora_down.weight": layer.lora_A["default"].weight.detach(),
        f"{stem}.lora_up.weight": layer.lora_B["default"].weight.detach(),
        f"{stem}.alpha": torch.tensor(4.0),
        f"{stem}.dora_scale": magnitude.detach()[:, None].contiguous(),
    }
    save_file({key: t.contiguous() for key, t in tensors.items()}, tmp_path / "dora.safetensors")
    proved(*export(tmp_path / "dora.safetensors", tmp_path / "merged", "merged", base=str(tiny_folder)))
    ours = load_file(tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors")[f"{name}.weight"]
    layer.merge()
    assert torch.allclose(ours, layer.base_layer.weight, atol=1e-5)
    with pytest.raises(AdapterError, match="is a DoRA"):
        export(tmp_path / "dora.safetensors", tmp_path / "kohya.safetensors", "kohya")


def test_nothing_of_a_users_is_replaced(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("…")
    with pytest.raises(DiskError, match="already exists"):
        export(run / "adapters" / "lora-2", tmp_path / "mine", "diffusers")
    assert (tmp_path / "mine" / "thesis.txt").is_file()


@pytest.mark.parametrize(
    ("label", "form", "name", "error"),
    [
        ("full", "kohya", "x.safetensors", AdapterError),
        ("lora-2", "single-file", "folder", InputError),
        ("lora-2", "onnx", "x", InputError),
        ("nothing", "kohya", "x.safetensors", AdapterError),
        (".", "kohya", "x.safetensors", AdapterError),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(label, form, name, error, run, tmp_path):
    with pytest.raises(error):
        export(run / "adapters" / label, tmp_path / name, form)
    assert not list(tmp_path.iterdir())


def test_a_photo_set_is_no_adapter(run, tmp_path):
    with pytest.raises(AdapterError, match="is not an adapter"):
        export(run / "photos", tmp_path / "x.safetensors", "kohya")


def test_the_command_prints_the_difference(run, tmp_path, limner):
    outcome = limner(
        "export",
        run / "adapters" / "lora-2",
        tmp_path / "a.safetensors",
        "--format",
        "kohya",
        "--device",
        "cpu",
        "--json",
    )
    assert outcome.code == 0
    told = json.loads(outcome.out)["difference"]
    assert told["prompt"] == "a photo of sks cat face"
    assert told["latents"] < 1e-4
    assert told["pixels"] <= 1
    alone = Path(shutil.copytree(run / "adapters" / "lora-2", tmp_path / "alone"))
    outcome = limner("export", alone, tmp_path / "b.safetensors", "--format", "kohya")
    assert "name it with --base" in outcome.out


def test_a_runs_own_folders_are_told_apart(run):
    lora, full = (inspect(run / "adapters" / label) for label in ("lora-2", "full"))
    assert (lora.family, full.family) == ("lora-sd15", "sd15")
    assert "rank 2" in lora.notes
    assert any("without its base" in problem for problem in full.problems)
