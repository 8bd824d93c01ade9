"""Parts of the check measured apart: which records count, and what the card tells of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("cv2")

from miniature.card import write_card  # noqa: E402
from miniature.check import Check, measure  # noqa: E402
from miniature.individuals import NAMES  # noqa: E402
from miniature.records import (  # noqa: E402
    TABLES,
    PartRecord,
    keep_record,
    part_settings,
    valid_records,
    weights_hash,
)
from miniature.rows import Row  # noqa: E402

SETTINGS = {
    "render": {"sampler": "dpm++", "steps": 16, "guidance_scale": 3.0},
    "control": {"steps": 20},
    "variants": {"full": {"steps": 140}},
    "class_images": {"count": 24},
    "prepare": {"zoom": "head"},
}


@pytest.fixture
def family(tmp_path: Path) -> Path:
    folder = tmp_path / "family"
    for part in ("vae", "unet"):
        (folder / part).mkdir(parents=True)
        (folder / part / "model.safetensors").write_bytes(part.encode())
    write_config(folder, 0.5)
    write_defaults(folder, SETTINGS)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


def write_config(family: Path, scaling_factor: float, **more: Any) -> None:
    (family / "vae" / "config.json").write_text(json.dumps({"scaling_factor": scaling_factor} | more))


def write_defaults(family: Path, defaults: dict[str, Any]) -> None:
    (family / "limner.json").write_text(json.dumps({"defaults": defaults}))


def record_of(family: Path, part: str) -> PartRecord:
    return PartRecord(
        part=part,
        date="2026-02-03",
        device="a GPU",
        seconds=12.4,
        weights=weights_hash(family),
        settings=part_settings(family, part),
        fewer=None,
        rows=[Row(f"row of {part}", 31.5, 30.0).to_json()],
        details={"names": list(NAMES)} if part == "subjects" else {},
    )


def keep_all(family: Path, work: Path) -> None:
    for part in TABLES:
        keep_record(work, record_of(family, part))


def card_of(family: Path, work: Path) -> str:
    write_card(family, work)
    return (family / "README.md").read_text()


def test_the_card_is_one_table_of_parts_measured_apart(family: Path, work: Path) -> None:
    keep_record(work, replace(record_of(family, "pair"), date="2026-02-04", device="cpu"))
    keep_record(work, record_of(family, "vae"))
    card = card_of(family, work)
    assert "| row of vae | 31.5 | at least 30 | yes |\n| row of pair | 31.5 | at least 30 | yes |\n\n" in card
    assert "\nMeasured: vae 2026-02-03, a GPU, 12 s; pair 2026-02-04, cpu, 12 s.\n" in card
    missing = [line for line in card.splitlines() if "not measured" in line]
    assert missing == [f"- not measured for these weights: {name}" for name in list(TABLES)[2:]]


def test_a_card_without_any_record_names_every_part_and_has_no_table(family: Path, work: Path) -> None:
    card = card_of(family, work)
    assert card.count("- not measured for these weights: ") == len(TABLES)
    assert "| what |" not in card


def test_with_every_part_measured_nothing_is_missing(family: Path, work: Path) -> None:
    keep_all(family, work)
    card = card_of(family, work)
    assert "not measured" not in card
    assert card.count("| row of ") == len(TABLES)


def test_a_part_measured_again_replaces_its_own_rows_alone(family: Path, work: Path) -> None:
    keep_all(family, work)
    again = replace(record_of(family, "subjects"), rows=[Row("taught", 0.8, 0.75).to_json()])
    keep_record(work, again)
    card = card_of(family, work)
    assert "| taught | 0.8 |" in card
    assert "row of subjects" not in card
    assert card.count("| row of ") == len(TABLES) - 1


@pytest.mark.parametrize("change", ["content", "another file", "scaling factor"])
def test_no_record_of_other_weights_counts(family: Path, work: Path, change: str) -> None:
    keep_all(family, work)
    if change == "content":
        (family / "unet" / "model.safetensors").write_bytes(b"other")
    elif change == "another file":
        (family / "unet" / "model-2.safetensors").write_bytes(b"")
    else:
        write_config(family, 0.6)
    assert valid_records(family, work) == {}


def test_other_files_do_not_touch_the_weights(family: Path, work: Path) -> None:
    keep_all(family, work)
    write_config(family, 0.5, transformers_version="another")
    (family / "README.md").write_text("another card")
    assert list(valid_records(family, work)) == list(TABLES)


@pytest.mark.parametrize(
    ("table", "lost"),
    [
        ("render", {"renders", "distance", "subjects"}),
        ("control", {"control"}),
        ("variants", {"subjects"}),
        ("class_images", {"subjects"}),
        ("prepare", {"subjects"}),
        ("measure", set()),
    ],
)
def test_other_settings_cost_the_parts_that_depend_on_them(
    family: Path, work: Path, table: str, lost: set[str]
) -> None:
    keep_all(family, work)
    write_defaults(family, SETTINGS | {table: {"steps": 7}})
    assert set(TABLES) - set(valid_records(family, work)) == lost


def test_a_quick_look_never_counts_and_replaces_nothing(family: Path, work: Path) -> None:
    quick = replace(record_of(family, "vae"), fewer=40)
    keep_record(work, quick)
    assert valid_records(family, work) == {}
    (work / "check" / "parts" / "vae-quick.json").rename(work / "check" / "parts" / "vae.json")
    assert valid_records(family, work) == {}
    whole = record_of(family, "vae")
    keep_record(work, whole)
    keep_record(work, quick)
    assert valid_records(family, work) == {"vae": whole}


def test_fewer_than_the_eight_cats_do_not_count(family: Path, work: Path) -> None:
    keep_record(work, replace(record_of(family, "subjects"), details={"names": list(NAMES[:7])}))
    assert valid_records(family, work) == {}
    keep_record(work, record_of(family, "subjects"))
    assert list(valid_records(family, work)) == ["subjects"]


def test_a_part_is_recorded_with_the_weights_that_it_was_measured_with(family: Path, work: Path) -> None:
    options = argparse.Namespace(out=family, fewer=None)
    settings = {name: part_settings(family, name) for name in TABLES}
    check = Check(options, torch.device("cpu"), work / "check", weights_hash(family), settings)
    record = measure(check, "size")
    keep_record(work, record)
    assert valid_records(family, work) == {"size": record}
    (family / "unet" / "model.safetensors").write_bytes(b"packaged meanwhile")
    with pytest.raises(SystemExit, match="has changed since the check began, so size is not kept"):
        measure(check, "size")
