"""LoRAs extracted from full results, resized and merged: what they leave out is what they say."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from limner.adapters.exchange import load_foreign, save_kohya
from limner.adapters.exchange.svd import resized, truncated
from limner.adapters.low_rank import LowRankUpdate
from limner.errors import AdapterError, InputError
from limner.exporting import export
from limner.exporting.lora_tools import extract, merge, resize
from tests.adapters.test_adapter import random_low_rank
from tests.adapters.test_exchange import delta


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (6, 4, 3, 3), (40, 2, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3, 50])
def test_the_nearest_update_is_the_svds(shape, rank):
    change = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    update, left = truncated(change, rank)
    values = torch.linalg.svdvals(change.flatten(1).double())
    assert left == pytest.approx(float(values[rank:].square().sum()), abs=1e-6)
    got = delta(update)
    assert float((change.flatten(1) - got).double().square().sum()) == pytest.approx(left, abs=1e-4)
    assert update.scale == 1.0
    again, lost, whole = resized(update, 1)
    kept = values[: min(rank, len(values))].square()
    assert lost == pytest.approx(float(kept[1:].sum()), rel=1e-4, abs=1e-6)
    assert whole == pytest.approx(float(kept.sum()), rel=1e-4)
    assert again.down.shape[1:] == update.down.shape[1:]


def test_what_a_lora_changed_is_had_back_from_the_merged_base(tiny_base, tiny_folder, tmp_path):
    low_rank = random_low_rank(tiny_base, rank=2, alpha=5.0, targets="transformer")
    save_kohya(tmp_path / "lora.safetensors", low_rank, {})
    export(tmp_path / "lora.safetensors", tmp_path / "merged", "merged", base=str(tiny_folder))
    made = extract(tmp_path / "merged", tmp_path / "again.safetensors", 2, base=str(tiny_folder))
    assert made.error < 1e-3
    again = load_foreign(made.path).low_rank
    for module, updates in low_rank.items():
        for layer, update in updates.items():
            assert torch.allclose(delta(again[module][layer]), delta(update), atol=1e-4), layer


def test_a_trained_result_leaves_less_the_higher_the_rank(run, tmp_path):
    errors = [
        extract(run / "adapters" / "full", tmp_path / f"{rank}.safetensors", rank, targets="all").error
        for rank in (1, 4, 16)
    ]
    assert 1 > errors[0] > errors[1] > errors[2]
    attention = extract(run / "adapters" / "full", tmp_path / "a.safetensors", 16, targets="attention")
    assert attention.error > errors[2]  # what is not beside a LoRA counts as left out


def test_a_resized_lora_keeps_the_largest_of_it(tiny_base, tmp_path):
    save_kohya(tmp_path / "lora.safetensors", random_low_rank(tiny_base, rank=4, alpha=2.0), {})
    same = resize(tmp_path / "lora.safetensors", tmp_path / "same.safetensors", 4)
    assert same.error < 1e-5
    low = resize(tmp_path / "lora.safetensors", tmp_path / "low.safetensors", 1)
    assert 0.1 < low.error < 1
    assert {key: t.shape[0] for key, t in load_file(low.path).items() if "lora_down" in key}.values()
    assert all(t.shape[0] == 1 for key, t in load_file(low.path).items() if "lora_down" in key)


def test_merged_loras_add_up(tiny_base, tmp_path):
    one = random_low_rank(tiny_base, rank=2, alpha=5.0, seed=1)
    other = random_low_rank(tiny_base, rank=3, alpha=3.0, seed=2, targets="transformer", modules=("unet",))
    for name, low_rank in (("one", one), ("other", other)):
        save_kohya(tmp_path / f"{name}.safetensors", low_rank, {})
    paths = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    made = load_foreign(merge(paths, [1.0, -0.5], tmp_path / "both.safetensors").path).low_rank
    assert made["text_encoder"].keys() == one["text_encoder"].keys()
    for layer, update in other["unet"].items():
        wanted = -0.5 * delta(update) + (delta(one["unet"][layer]) if layer in one["unet"] else 0)
        assert torch.allclose(delta(made["unet"][layer]), wanted, atol=1e-5)
    assert merge(paths, [], tmp_path / "low.safetensors", rank=2).error > 0.05


def test_what_cannot_be_is_said(run, tiny_base, tiny_folder, tmp_path):
    save_kohya(tmp_path / "lora.safetensors", random_low_rank(tiny_base), {})
    with pytest.raises(InputError, match="a strength for each"):
        merge([tmp_path / "lora.safetensors"] * 2, [1.0], tmp_path / "x.safetensors")
    with pytest.raises(AdapterError, match="is no LoRA by itself"):
        resize(run / "adapters" / "on top", tmp_path / "x.safetensors", 1)
    with pytest.raises(AdapterError, match="changes nothing"):
        extract(tiny_folder, tmp_path / "x.safetensors", 1, base=str(tiny_folder))
    with pytest.raises(InputError, match="name it with --base"):
        extract(tiny_folder, tmp_path / "x.safetensors", 1)
    wide = {
        "unet": {
            "down_blocks.0.attentions.0.proj_in": LowRankUpdate(torch.ones(1, 9, 1, 1), torch.ones(9, 1, 1, 1), 1.0)
        }
    }
    narrow = {
        "unet": {
            "down_blocks.0.attentions.0.proj_in": LowRankUpdate(torch.ones(1, 8, 1, 1), torch.ones(9, 1, 1, 1), 1.0)
        }
    }
    save_kohya(tmp_path / "wide.safetensors", wide, {})
    save_kohya(tmp_path / "narrow.safetensors", narrow, {})
    with pytest.raises(AdapterError, match="different shapes"):
        merge([tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors"], [], tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_commands(run, tmp_path, limner):
    full, made = run / "adapters" / "full", tmp_path / "made.safetensors"
    outcome = limner("lora", "extract", full, made, "--rank", 4, "--json")
    assert outcome.code == 0
    assert 0 < json.loads(outcome.out)["error"] < 1
    assert "of the whole change" in limner("lora", "resize", made, tmp_path / "small.safetensors", "--rank", 1).out
    merged = tmp_path / "both.safetensors"
    assert (
        limner(
            "lora", "merge", made, tmp_path / "small.safetensors", "--out", merged, "--strength", 1, "--strength", 2
        ).code
        == 0
    )
    assert merged.is_file()


def test_another_programs_lora_is_rendered_at_once(run, tiny_folder, tmp_path, limner):
    export(run / "adapters" / "lora-2", tmp_path / "theirs.safetensors", "kohya")
    out = tmp_path / "look.png"
    asked = ("--prompt", "a photo of a cat", "--seed", 3, "--out", out, "--device", "cpu")
    assert limner("render", tmp_path / "theirs.safetensors", *asked, "--base", tiny_folder).code == 0
    own = limner(
        "render",
        run / "adapters" / "lora-2",
        *asked[:-4],
        "--out",
        tmp_path / "own.png",
        "--base",
        tiny_folder,
        *asked[-2:],
    )
    assert own.code == 0
    from PIL import Image, ImageChops

    with Image.open(out) as theirs, Image.open(tmp_path / "own.png") as ours:
        assert ImageChops.difference(theirs.convert("RGB"), ours.convert("RGB")).getextrema() == ((0, 0),) * 3
    refused = limner("render", tmp_path / "theirs.safetensors", *asked)
    assert "name it with --base" in refused.err
