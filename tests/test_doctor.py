"""The doctor: what it says of a machine and of a study."""

from __future__ import annotations

import json

from tests.cli.calling import Shell
from tests.studies import write_study


def test_the_machine(monkeypatch, capsys):
    limner = Shell(monkeypatch, capsys)
    record = json.loads(limner("doctor", "--device", "cpu", "--json").out)
    assert record["device"] == {"type": "cpu", "memory_gib": None, "trains_in": "float32", "renders_in": "float32"}
    assert record["measuring"]["base"] is True
    assert record["processor"]["cores"] >= 1
    said = limner("doctor", "--device", "cpu")
    assert said.code == 0
    assert said.out.startswith("device: cpu; trains in float32")


def test_a_processor_with_tiles_is_told_to_get_a_compiler(monkeypatch, capsys):
    limner = Shell(monkeypatch, capsys)
    monkeypatch.setattr("limner.doctor.bf16_instructions", lambda: {"amx_bf16": True})
    for there, line in ((True, "amx_bf16, with kernels in C"), (False, "amx_bf16, without kernels in C")):
        monkeypatch.setattr("limner.doctor.has_tiles", lambda there=there: there)
        said = limner("doctor", "--device", "cpu").out
        assert line in said
        assert ("C compiler (cc)" in said) is not there


def test_a_study_before_anything_is_loaded(monkeypatch, capsys, tiny_folder, tmp_path):
    study, limner = write_study(tmp_path, tiny_folder), Shell(monkeypatch, capsys)
    for part in ("unet", "vae", "text_encoder"):
        assert list((tiny_folder / part).glob("*.safetensors"))
    monkeypatch.setattr("limner.base.load.load_base", None)  # nothing may be loaded
    record = json.loads(limner("doctor", study, "--device", "cpu", "--memory", "8", "--json").out)
    names = [f"{stage['stage']} {stage['label']}".strip() for stage in record["stages"]]
    assert names == ["class-images", "train full", "train lora-1", "train lora-2", "train on top", "render", "control"]
    assert all(0 < stage["peak_bytes"] < 2**30 for stage in record["stages"])
    assert record["limit_gib"] == 8
    assert record["faults"] == []


def test_a_study_that_does_not_fit_is_said_so_with_exit_code_2(monkeypatch, capsys, tiny_folder, tmp_path):
    study, limner = write_study(tmp_path, tiny_folder), Shell(monkeypatch, capsys)
    ended = limner("doctor", study, "--device", "cpu", "--memory", "0.6")
    assert ended.code == 2
    assert "does not fit: train full needs about 0.2 GiB" in ended.out
