"""`python -m miniature check`: every figure asked of the packaged family, from its folder and DATA alone.

It writes a record of each part into WORK/check/parts, contact sheets, and the family's model card with one table of all
parts that are measured for these weights, whenever and wherever that was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from limner.base.devices import choose_device
from miniature import subjects
from miniature.card import summary, write_card
from miniature.family import Family, load_family
from miniature.figures import (
    Figures,
    check_control,
    check_distance,
    check_pair,
    check_renders,
    check_size,
    check_vae,
)
from miniature.held_out import Pets, load_pets
from miniature.perception import Perception
from miniature.records import TABLES, PartRecord, keep_record, part_settings, valid_records, weights_hash
from miniature.rows import Row, table
from miniature.subject_results import COPY_TARGET, STYLE_TARGET, TARGETS

PARTS = tuple(TABLES)


def make_parser() -> argparse.ArgumentParser:
    """The options of `check`."""
    parser = argparse.ArgumentParser(prog="python -m miniature check", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pets256/, pets256.csv, maybe subjects/")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is written and kept")
    parser.add_argument("--out", type=Path, default=subjects.FAMILY, help="the family's folder")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--efficientnet", default="package", help="EfficientNet-Lite0's weights: a file, or `package`")
    parser.add_argument("--fewer", type=int, help="a quick look at so many renders and pictures; it never counts")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--names", default=",".join(subjects.NAMES), help="`subjects`: the cats that are taught")
    parser.add_argument("--processes", type=int, default=1, help="`subjects`: jobs at once")
    return parser


@dataclass
class Check:
    """What is measured, with what several parts share loaded once."""

    options: argparse.Namespace
    device: torch.device
    folder: Path
    weights: str
    """`weights_hash` of the family when the command began."""
    settings: dict[str, dict[str, Any]]
    """`part_settings` of every part, then too."""

    @cached_property
    def family(self) -> Family:
        """The family."""
        return load_family(self.options.out, self.device)

    @cached_property
    def val(self) -> Pets:
        """The held-out photos."""
        return load_pets(self.options.data, "val")

    def part(self, name: str) -> Figures:
        """Measure one part."""
        fewer = self.options.fewer
        parts: dict[str, Callable[[], Figures]] = {
            "vae": lambda: check_vae(self.family, self.val, fewer),
            "pair": lambda: check_pair(self.family, self.val, fewer),
            "renders": lambda: check_renders(self.family, self.val, fewer, self.folder),
            "distance": self.distance,
            "control": lambda: check_control(self.family, self.val, fewer, self.folder),
            "size": lambda: check_size(self.options.out),
            "subjects": self.subjects,
        }
        return parts[name]()

    def distance(self) -> Figures:
        """KID and copying."""
        perception = Perception(self.options.efficientnet).to(self.device)
        train = load_pets(self.options.data, "train")
        return check_distance(self.family, self.val, train, perception, self.options.fewer, self.folder)

    def subjects(self) -> Figures:
        """Cats that the family never saw, taught in the settings of `limner.json`."""
        given = {"data": "data", "work": "work", "out": "out", "efficientnet": "efficientnet", "device": "device"}
        arguments = [f"--{name}={getattr(self.options, source)}" for name, source in given.items()]
        arguments += [f"--names={self.options.names}", f"--processes={self.options.processes}", "--tag=check"]
        record = subjects.run_check(subjects.make_parser().parse_args(arguments))[0]
        if record["failed"]:
            raise SystemExit(f"check: unseen cats that could not be taught: {record['failed']}")
        return [row for result in record["results"] for row in subject_rows(result)], record


def subject_rows(result: dict[str, Any]) -> list[Row]:
    """Three rows for one method."""
    label = f"Unseen cats ({len(result['right_of'])}), {result['label']}, {result['steps']} steps"
    return [
        Row(f"{label}: renders nearest to the right cat", result["right"], TARGETS[result["method"]]),
        Row(f"{label}: styled renders whose style the pair names", result["style"], STYLE_TARGET),
        Row(f"{label}: renders nearer to a photo than photos are", result["copies"], COPY_TARGET, "at most"),
    ]


def chosen_parts(options: argparse.Namespace) -> list[str]:
    """The parts asked for, less `subjects` where there is nothing to teach."""
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        raise SystemExit(f"--only: {', '.join(sorted(unknown))} unknown; there are {', '.join(PARTS)}")
    there = [options.data / "subjects", options.work / "subjects" / "photos"]
    if "subjects" in names and not any(folder.is_dir() for folder in there):
        print(f"check: there is no {there[0]}, so no unseen cat is taught", flush=True)
        names.remove("subjects")
    return names


def device_name(device: torch.device) -> str:
    """For the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def measure(check: Check, name: str) -> PartRecord:
    """One part. Its record is of the family as it was when the command began, so that must still be there."""
    out, began = check.options.out, time.monotonic()
    rows, details = check.part(name)
    record = PartRecord(
        part=name,
        date=time.strftime("%Y-%m-%d"),
        device=device_name(check.device),
        seconds=round(time.monotonic() - began, 1),
        weights=check.weights,
        settings=check.settings[name],
        fewer=check.options.fewer,
        rows=[row.to_json() for row in rows],
        details=details,
    )
    if not record.is_of(weights_hash(out), part_settings(out, name)):
        raise SystemExit(f"check: {out} has changed since the check began, so {name} is not kept; start again")
    return record


def main(arguments: list[str]) -> None:
    """The command."""
    options = make_parser().parse_args(arguments)
    settings = {name: part_settings(options.out, name) for name in PARTS}
    device, folder = choose_device(options.device), options.work / "check"
    check = Check(options, device, folder, weights_hash(options.out), settings)
    for name in chosen_parts(options):
        record = measure(check, name)
        keep_record(options.work, record)
        print(f"check: {name}, {record.seconds:.0f} s\n{table(record.figures)}", flush=True)
        if record.whole:
            write_card(options.out, options.work)
        else:
            print(f"check: a quick look at {name}; the card stays as it is", flush=True)
    print(f"\n{summary(valid_records(options.out, options.work))}", flush=True)
