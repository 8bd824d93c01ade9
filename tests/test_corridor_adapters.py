"""The corridor with LoRAs of other programs: compared as they are, trained further, and trained on top of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.adapters import Adapter, attached, load_trained
from limner.adapters.exchange import load_foreign, save_kohya
from limner.artifacts import AdapterFolder, RenderSet, file_hashes, hash_file
from limner.base import Base, find_base, load_base
from limner.config import AdapterFile
from limner.errors import AdapterError, StudyError
from limner.exporting import export
from limner.opening import open_study
from limner.stages.adopt import adopt
from limner.study import run_study
from tests.adapters.test_adapter import random_low_rank, unet_output
from tests.base.files import write_sparse
from tests.studies import STUDY, Finished, write_study

FILE = "their lora.safetensors"
VARIANTS = """[[adapters]]
name = "half"
file = "their lora.safetensors"
strength = 0.5

[[variants]]
name = "further"
method = "lora"
rank = 2
alpha = 3.0
targets = "start"
learning_rate = 1e-9
start_from = "their lora.safetensors"

[[variants]]
name = "dreambooth"
method = "full"
learning_rate = 1e-9
start_from = "their lora.safetensors"

[[variants]]
name = "on top"
method = "lora"
rank = 1
start_from = "their lora-merged"

"""
BEFORE, AFTER = STUDY[STUDY.index("[[variants]]") : STUDY.index("[render]")], "[render]"


def write_with_adapters(folder: Path, base: Path, variants: str = VARIANTS) -> Path:
    """A study whose variants start from a LoRA of kohya's keys, which lies beside it."""
    own = load_base(find_base(str(base)))
    low_rank = random_low_rank(own, rank=2, alpha=3.0, targets="transformer", modules=("unet",))
    folder.mkdir(parents=True, exist_ok=True)
    save_kohya(folder / FILE, low_rank, {})
    return write_study(folder, base, changes={BEFORE: variants})


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("adapters")
    study = write_with_adapters(folder, tiny_folder)
    return Finished(study, folder / "run", run_study(study, folder / "run"))


def output_with(base: Base, adapter: Adapter, strength: float = 1.0) -> torch.Tensor:
    with attached(base.modules(), adapter, strength):
        return unet_output(base)


def test_every_adapter_acts_as_its_file_does(finished, tiny_base):
    theirs = load_foreign(finished.study.parent / FILE).adapter()
    untouched, wanted = unet_output(tiny_base), output_with(tiny_base, theirs)
    assert not torch.allclose(untouched, wanted, atol=1e-2)
    made = {path.name: load_trained(AdapterFolder(path)) for path in (finished.run / "adapters").iterdir()}
    assert made.keys() == {"half", "their lora", "their lora-merged", "further", "dreambooth", "on top"}
    assert torch.equal(output_with(tiny_base, made["their lora"]), wanted)
    assert torch.allclose(output_with(tiny_base, made["half"]), output_with(tiny_base, theirs, 0.5), atol=1e-6)
    assert torch.allclose(output_with(tiny_base, made["their lora-merged"]), wanted, atol=1e-5)
    # both were trained at next to no learning rate: what is left is what they started from
    assert torch.allclose(output_with(tiny_base, made["further"]), wanted, atol=1e-3)
    assert torch.allclose(output_with(tiny_base, made["dreambooth"]), wanted, atol=2e-2)
    assert set(made["on top"].full) == {"unet"}
    assert made["on top"].fixed_hash == made["their lora-merged"].fixed_hash


def test_they_stand_beside_the_variants_in_pictures_report_and_lock(finished):
    rendered = {cell.variant for cell in RenderSet(finished.run / "renders").cells}
    assert rendered == {"base", "half", "their lora", "their lora-merged", "further", "dreambooth", "on top"}
    page, readme = finished.page.read_text(), (finished.page.parent / "README.md").read_text()
    assert f"{FILE}, strength 0.5" in page
    assert "three LoRAs made elsewhere" in page
    assert "seed 3, training seed" not in readme  # they stand in the rows of the others
    assert re.search("half [+−]", readme[readme.index("Mean difference in likeness") :].splitlines()[0])
    assert 'pipeline.load_lora_weights("adapters/half")' in readme
    lock = json.loads((finished.run / "study.lock.json").read_text())
    assert lock["adapters"]["half"] == hash_file(finished.study.parent / FILE)
    assert [each["name"] for each in lock["study"]["adapters"]] == ["half", "their lora", "their lora-merged"]


def test_what_was_trained_on_top_is_exported_with_what_it_stands_on(finished, tiny_base, tmp_path):
    adapter = finished.run / "adapters" / "on top"
    with pytest.raises(AdapterError, match="does nothing without it"):
        export(adapter, tmp_path / "alone.safetensors", "kohya")
    export(adapter, tmp_path / "merged", "merged", dtype=torch.float32)
    merged = load_base(find_base(str(tmp_path / "merged")))
    wanted = output_with(tiny_base, load_trained(AdapterFolder(adapter)))
    assert torch.allclose(unet_output(merged), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_another_content_of_the_file_makes_all_that_stands_on_it_anew(finished, tmp_path):
    shutil.copytree(finished.study.parent, tmp_path / "copy")
    study, run = tmp_path / "copy" / "study.toml", tmp_path / "copy" / "run"
    before = file_hashes(run / "adapters")
    run_study(study, run, until="train")
    assert file_hashes(run / "adapters") == before
    tensors = load_file(study.parent / FILE)
    save_file(
        {key: tensor * 1.5 if key.endswith("up.weight") else tensor for key, tensor in tensors.items()},
        study.parent / FILE,
    )
    run_study(study, run, until="train")
    after = file_hashes(run / "adapters")
    assert all(before[name] != after[name] for name in before if name.endswith(".safetensors"))


ALONE = '[[variants]]\nmethod = "lora"\nrank = 2\nalpha = 3.0\nstart_from = "{file}"\n\n'
SDXL = {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 1280)}


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (ALONE.format(file="absent.safetensors"), ["there is no file or folder", "absent.safetensors"]),
        (ALONE.format(file="sdxl.safetensors"), ["is LoRA of SDXL; here a LoRA of Stable Diffusion 1.5 is needed"]),
        (ALONE.format(file="sd15.safetensors"), ["and its change is for another shape"]),
        (ALONE.format(file="strange.safetensors"), ["1 of 2 keys find no place in SD 1.5: lora_unet_x.lora_up.weight"]),
        (ALONE.format(file="oft.safetensors"), ["is an OFT", "set merged = true"]),
        (ALONE.format(file=FILE), ["set targets = \"start\""]),
        (ALONE.format(file=FILE).replace("= 2", "= 4"), ["has rank 2 and alpha 3, this variant 4", "lora resize"]),
        (
            ALONE.format(file=FILE) + 'targets = "start"\ntext_encoder = true\n\n',
            ["has no updates of the text_encoder"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_started_from_is_said_before_any_weight_is_loaded(variants, said, tiny_folder, tmp_path):
    study = write_with_adapters(tmp_path, tiny_folder, variants.replace("\n\ntargets", "\ntargets"))
    attention = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    write_sparse(tmp_path / "sdxl.safetensors", SDXL)
    write_sparse(
        tmp_path / "sd15.safetensors",
        {f"{attention}.lora_down.weight": (2, 320), f"{attention}.lora_up.weight": (320, 2)},
    )
    write_sparse(
        tmp_path / "strange.safetensors",
        {f"{attention}.lora_down.weight": (2, 8), "lora_unet_x.lora_up.weight": (8, 2)},
    )
    width = load_foreign(tmp_path / FILE).low_rank["unet"]["mid_block.attentions.0.transformer_blocks.0.ff.net.2"]
    write_sparse(
        tmp_path / "oft.safetensors",
        {"lora_unet_mid_block_attentions_0_proj_in.oft_blocks": (width.up.shape[0] // 2, 2, 2)},
    )
    with pytest.raises(StudyError) as refused:
        open_study(study)
    assert all(words in str(refused.value) for words in said), refused.value
    assert not (tmp_path / "run").exists()


def test_a_run_of_somebody_elses_is_taken_in_but_no_whole_weights(finished, tiny_folder, tmp_path):
    base, adapters = find_base(str(tiny_folder)), finished.run / "adapters"
    taken = adopt(AdapterFile(name="x", file=Path("x")), adapters / "further", tmp_path / "x", base)
    same, own = load_trained(taken).low_rank["unet"], load_trained(AdapterFolder(adapters / "further")).low_rank["unet"]
    assert all(torch.equal(same[name].down, update.down) for name, update in own.items())
    with pytest.raises(AdapterError, match="starts from whole weights; make them the base"):
        adopt(AdapterFile(name="y", file=Path("y")), adapters / "on top", tmp_path / "y", base)
