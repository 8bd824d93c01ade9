"""A study that chooses its steps, from its file to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limner.artifacts import AdapterFolder
from limner.base.weights.header import read_header
from limner.config import expand_variants
from limner.memory import adapter_bytes, read_shapes
from limner.opening import open_study
from limner.study import run_study
from tests.studies import write_study
from tests.test_corridor import Stopping, contents

RULE = """prior_preservation = true
[variants.validation]
every_steps = 1
keep = "best"
count = 1
seed = 6
neighbours = 0
prompts = ["a photo of {subject}", "a sketch of {subject}"]
"""


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choosing")
    study = write_study(folder, tiny_folder, changes={"prior_preservation = true\n": RULE})
    run_study(study, folder / "run")
    return folder / "run"


def record(run: Path, label: str) -> dict:
    return AdapterFolder(run / "adapters" / label).record.to_json()


def test_each_rank_delivers_its_best_step_and_says_why_in_manifest_lock_and_report(run):
    lock = json.loads((run / "study.lock.json").read_text(encoding="utf-8"))
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert set(lock["chosen"]) == {"lora-1", "lora-2"}
    for label in ("lora-1", "lora-2"):
        curve, chosen = record(run, label)["validation"], record(run, label)["chosen"]
        assert [row["step"] for row in curve] == [1, 2, 3]
        shares = [[min(max(row[f"{name}_share"], 0), 1) for name in ("likeness", "fidelity")] for row in curve]
        scores = [
            (likeness * fidelity, row["likeness_share"])
            for (likeness, fidelity), row in zip(shares, curve, strict=True)
        ]
        allowed = [place for place in range(3) if curve[place]["copying_share"] <= 0.1]
        assert chosen["step"] == 1 + max(allowed, key=lambda place: scores[place])
        assert lock["chosen"][label] == chosen
        assert f"step {chosen['step']} kept (best of 3 validated steps" in page
    assert record(run, "full")["chosen"] is None


def test_the_same_command_again_trains_nothing_and_leaves_the_lock_file_alone(run, monkeypatch):
    lock = (run / "study.lock.json").read_bytes()
    monkeypatch.setattr("limner.running.run.load_base", lambda *given, **options: pytest.fail("a base was loaded"))
    run_study(run.parent / "study.toml", run)
    assert (run / "study.lock.json").read_bytes() == lock


def test_adapters_take_the_disk_that_was_asked_for(run):
    opened = open_study(run.parent / "study.toml")
    shapes = read_shapes(opened.base)
    for variant in expand_variants(opened.study.variants):
        files = (run / "adapters" / variant.label).glob("*.safetensors")
        tensors = [tensor for file in files for tensor in read_header(file).tensors.values()]
        assert sum(tensor.end - tensor.start for tensor in tensors) == pytest.approx(
            adapter_bytes(variant, shapes), rel=1e-3
        )


def test_stopped_in_a_sweep_it_goes_on_to_the_same_choices_and_bytes(run, tiny_folder, tmp_path):
    again = write_study(tmp_path / "again", tiny_folder, changes={"prior_preservation = true\n": RULE})
    for after in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run_study(again, tmp_path / "run", until="train", progress=Stopping("train lora-1, lora-2", after))
    run_study(again, tmp_path / "run", until="train")
    for label in ("lora-1", "lora-2"):
        assert record(tmp_path / "run", label)["chosen"] == record(run, label)["chosen"]
        assert record(tmp_path / "run", label)["validation"] == record(run, label)["validation"]
    assert contents(tmp_path / "run" / "adapters", "*.safetensors") == contents(run / "adapters", "*.safetensors")
    assert not list((tmp_path / "run" / "work").rglob("kept-*"))
