"""`python -m miniature subjects`: does teaching the family a cat that it never saw work, and in which settings?

Every cat is taught with limner's own stages in the settings of the family's `limner.json` (and what `--set` or a grid
lays over them); all cats, methods and settings are jobs of one pool.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limner.base import find_base, load_base
from limner.base.devices import choose_device
from limner.config import ClassImages, Study, expand_variants
from limner.config.study import merged, resolve_study
from limner.stages.class_images import make_class_images
from limner.stages.context import Context
from miniature.files import read_json
from miniature.individuals import (
    CLASS_NOUN,
    NAMES,
    first_photos,
    load_embedder,
    load_individuals,
    real_photos_recognised,
)
from miniature.personalise import Bench, Outcome, Task, begin, carry_out
from miniature.subject_results import results_of, save_sheets, table_lines

FAMILY = Path("src/limner/base/miniature")
VARIANT = {"checkpoint_every_steps": 0, "precision": "fp32"}
"""As on a processor, where the miniature is at home; nothing is kept of a training that is cut short."""


@dataclass(frozen=True)
class Config:
    """One set of settings to be tried."""

    tag: str
    methods: tuple[str, ...]
    settings: dict[str, Any]
    """Tables by name: full, lora, and those of a study (render, class_images, prepare)."""
    photos: int | None
    eval_steps: tuple[int, ...]


def make_parser() -> argparse.ArgumentParser:
    """The options of `subjects`."""
    parser = argparse.ArgumentParser(prog="python -m miniature subjects", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with subjects/")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is written or kept")
    parser.add_argument("--out", type=Path, default=FAMILY, help="the family's folder")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu; cuda takes all in turn")
    parser.add_argument("--efficientnet", default="package", help="EfficientNet-Lite0's weights: a file, or `package`")
    parser.add_argument("--processes", type=int, default=1, help="jobs at once")
    parser.add_argument("--threads", type=int, help="of each process (default: the cores shared evenly)")
    parser.add_argument("--names", default=",".join(NAMES), help="cats to teach; all eight stay prototypes")
    parser.add_argument("--methods", default="full,lora")
    parser.add_argument("--photos", type=int, help="only the first so many photos of each cat")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.NAME=VALUE", help="as in a study")
    parser.add_argument("--eval-steps", default="", help="also judge after these numbers of steps, for example 60,100")
    parser.add_argument("--tag", default="limner.json", help="what to call these settings")
    parser.add_argument(
        "--grid", type=Path, help="JSON list of {tag, set, methods, photos, eval_steps}, all in one pool"
    )
    return parser


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """["lora.rank=4", …] to tables; a value is TOML, or a string where it is not."""
    tables: dict[str, Any] = {}
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        names = path.split(".")
        if not sign or len(names) < 2:
            raise SystemExit(f'--set "{assignment}" is not TABLE.NAME=VALUE, for example lora.steps=200')
        table: dict[str, Any] = {names[-1]: _value(text)}
        for name in reversed(names[:-1]):
            table = {name: table}
        tables = merged(tables, table)
    return tables


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_configs(options: argparse.Namespace) -> list[Config]:
    """The grid's rows over the command's own options, or these alone."""
    rows = read_json(options.grid) if options.grid else [{}]
    own = parse_settings(options.set)
    configs = []
    for index, row in enumerate(rows):
        given = row.get("set", {})
        given = parse_settings([f"{k}={json.dumps(v)}" for k, v in given.items()]) if _is_flat(given) else given
        steps = row.get("eval_steps", [int(step) for step in options.eval_steps.split(",") if step])
        methods = row.get("methods", options.methods.split(","))
        tag = row.get("tag", f"row-{index}" if options.grid else options.tag)
        configs.append(
            Config(tag, tuple(methods), merged(own, given), row.get("photos", options.photos), tuple(sorted(steps)))
        )
    tags = [config.tag for config in configs]
    if len(set(tags)) < len(tags):
        raise SystemExit("two rows of the grid have the same tag")
    return configs


def _is_flat(settings: dict[str, Any]) -> bool:
    return all("." in name for name in settings)


def study_of(config: Config, defaults: dict[str, Any]) -> Study:
    """The study that a user would write for these settings."""
    evaluation = {"validation": {"every_steps": math.gcd(*config.eval_steps)}} if config.eval_steps else {}
    variants = [
        merged(VARIANT | evaluation, config.settings.get(method, {})) | {"method": method} for method in config.methods
    ]
    tables = {name: table for name, table in config.settings.items() if name not in ("full", "lora")}
    raw = {"subject": {"photos": "photos", "class_noun": CLASS_NOUN}, "variants": variants}
    return resolve_study(merged(raw, tables), defaults, config.tag)


class Check:
    """What was asked for, and the slow things that are kept in WORK."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.work / "subjects"
        self.location = find_base(str(options.out))
        self.device = torch.device(options.device) if ":" in options.device else choose_device(options.device)
        self.configs = read_configs(options)
        self.studies = [study_of(config, self.location.defaults) for config in self.configs]
        self.names = options.names.split(",")
        if unknown := set(self.names) - set(NAMES):
            raise SystemExit(f"--names: {', '.join(sorted(unknown))} unknown; there are {', '.join(NAMES)}")
        prepares = [study.prepare for study in self.studies]
        if any(settings != prepares[0] for settings in prepares):
            raise SystemExit("all rows of a grid share one [prepare]; run those that differ one after another")
        embedder = load_embedder(options.efficientnet, self.device)
        self.individuals = load_individuals(options.data, options.work, prepares[0], embedder)

    def bench(self) -> Bench:
        """For the workers."""
        devices = (str(self.device),)
        if self.device.type == "cuda" and self.device.index is None:
            devices = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        threads = self.options.threads or max(1, (os.cpu_count() or 1) // self.options.processes)
        return Bench(self.options.out, self.folder, self.options.efficientnet, devices, threads, self.individuals)

    def tasks(self) -> list[Task]:
        """Every job, configuration by configuration; what they read is made here."""
        base_of: list[Any] = []

        def base() -> Any:
            base_of[:] = base_of or [load_base(self.location, device=self.device)]
            return base_of[0]

        def class_images(study: Study) -> Path:
            settings: ClassImages = study.class_images
            chosen = f"{settings.count}-{settings.sampler}-{settings.steps}-{settings.guidance_scale:g}-{settings.seed}"
            folder = self.folder / "class" / f"{self.location.content_hash[:12]}-{chosen}"
            context = Context(study.subject, base, self.location.content_hash)
            make_class_images(context, settings, study.prepare.size_px, folder)
            return folder

        return [
            Task(
                config=number,
                name=name,
                run=run,
                subject=study.subject,
                render=study.render,
                photos=self._photos(name, config.photos),
                class_images=images,
                eval_steps=config.eval_steps,
            )
            for number, (config, study) in enumerate(zip(self.configs, self.studies, strict=True))
            for images in [class_images(study)]
            for run in expand_variants(study.variants)
            for name in self.names
        ]

    def _photos(self, name: str, count: int | None) -> Path:
        whole = self.folder / "photos" / name
        return first_photos(whole, count, self.folder / f"photos-{count}" / name).folder


def outcomes_of(check: Check, tasks: list[Task]) -> Iterator[Outcome]:
    """Run every job in a pool; outcomes as they come."""
    context = multiprocessing.get_context("spawn")
    processes = min(check.options.processes, len(tasks))
    starting = (check.bench(), context.Value("i", 0))
    with ProcessPoolExecutor(processes, mp_context=context, initializer=begin, initargs=starting) as pool:
        waiting = {pool.submit(carry_out, task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def run_check(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Everything; one row for each configuration, as it stands in WORK/subjects/results.jsonl."""
    started = time.monotonic()
    check = Check(options)
    tasks = check.tasks()
    ceiling = real_photos_recognised(check.individuals)
    print(f"subjects: real photos recognised {ceiling:.2f}; {len(tasks)} jobs, {options.processes} at once", flush=True)
    rows: list[dict[str, Any]] = []
    found: dict[int, list[Outcome]] = {}
    for done, outcome in enumerate(outcomes_of(check, tasks), start=1):
        number = outcome.task.config
        found.setdefault(number, []).append(outcome)
        outcome_text = outcome.fault or f"{outcome.seconds:.0f} s"
        print(f"subjects: {done}/{len(tasks)} {outcome.task.key} {outcome_text}", flush=True)
        if len(found[number]) == sum(task.config == number for task in tasks):
            config = check.configs[number]
            row = _row(config, options, found[number], ceiling)
            with (check.folder / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            save_sheets(check.folder / "sheets", config.tag, found[number], check.individuals)
            print("\n".join(table_lines(config.tag, row["results"])), flush=True)
            rows.append(row)
            found[number] = []  # its pictures
    print(f"subjects: {time.monotonic() - started:.0f} s", flush=True)
    return rows


def _row(config: Config, options: argparse.Namespace, outcomes: list[Outcome], ceiling: float) -> dict[str, Any]:
    return {
        "tag": config.tag,
        "date": time.strftime("%Y-%m-%d"),
        "set": config.settings,
        "photos": config.photos,
        "names": options.names.split(","),
        "real_photos_recognised": round(ceiling, 4),
        "failed": {outcome.task.key: outcome.fault for outcome in outcomes if outcome.fault},
        "results": results_of(outcomes),
    }


def main(arguments: list[str]) -> None:
    """The command."""
    run_check(make_parser().parse_args(arguments))
