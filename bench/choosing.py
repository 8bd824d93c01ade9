"""Does choosing the checkpoint pay? The last step, the lowest validation loss and limner's rule, on photos kept aside.

`python -m bench.choosing RECORD STUDY OUT --test FOLDER` trains one study of one subject, keeping every validated
step's weights, and scores those that the three rules choose with prompts and seeds of their own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench.processes import TAIL_LINES, start_module
from bench.studies import write_toml
from bench.table import machine_line
from limner.artifacts import PhotoSet, hash_file
from limner.errors import LimnerError
from limner.records import ValidationRecord
from limner.statistics import Described, Estimated, over_seeds

RULES = ("ours", "last", "loss")
TOLD = {"ours": "limner's rule", "last": "last step", "loss": "lowest validation loss"}
METHODS = ("full", "lora")
TRAINING_SEEDS = (0, 1, 2)
TEST_PHOTOS = HELD_OUT = 4
VALIDATIONS = 10
PATIENCE = 3  # of the early stopping that is worked out beside it
TEST_SEED = 4711
TEST_PROMPTS = [
    "a portrait photo of {subject}",
    "a photo of {subject} in the snow",
    "an oil painting of {subject}",
    "a cartoon of {subject}",
]
TEST_COUNT = 4  # pictures of each prompt
MEASURES = {
    "score": "both, as the rule joins them",
    "halves": "both, half each, each at most 1",
    "likeness_share": "likeness",
    "fidelity_share": "prompt fidelity",
    "copying_share": "copies",
}


@dataclass(frozen=True)
class Job:
    """One training, or a stack of LoRAs of all seeds."""

    subject: str
    method: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.subject}-{self.method}-{'-'.join(map(str, self.seeds))}"


class TestPhotos(PhotoSet):
    """A study's training photos, and as photos that no training sees others than it held out."""

    def __init__(self, folder: Path, test_files: Sequence[Path]) -> None:
        super().__init__(folder)
        object.__setattr__(self, "test_files", list(test_files))

    @property
    def held_out_files(self) -> list[Path]:
        """Those kept aside from the whole study."""
        return self.test_files  # pyright: ignore[reportAttributeAccessIssue]


def jobs_of(subjects: Iterable[str], seeds: Sequence[int], methods: Sequence[str]) -> list[Job]:
    """Every subject's first trainings come before any second one, so that time that runs out leaves whole subjects."""
    names = sorted(subjects)
    stacks = [Job(name, "lora", tuple(seeds)) for name in names if "lora" in methods]
    single = [Job(name, "full", (seed,)) for seed in seeds for name in names if "full" in methods]
    first = [job for pair in zip(single[: len(names)], stacks, strict=False) for job in pair]
    return first + [job for job in (*single, *stacks) if job not in first]


def split_photos(photos: Path, folder: Path) -> tuple[Path, Path]:
    """Copies of a subject's photos in two folders: for the study, and kept aside for the test (by lowest hash)."""
    files = sorted((file for file in photos.iterdir() if file.is_file()), key=hash_file)
    parts = {"study": files[TEST_PHOTOS:], "test": files[:TEST_PHOTOS]}
    for name, members in parts.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        for file in members:
            shutil.copyfile(file, folder / name / file.name)
    return folder / "study", folder / "test"


def choosing_tables(
    job: Job, photos: Path, base: str, steps: int, variant_settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The study of a job: all else is what the base recommends."""
    variant: dict[str, Any] = {
        "method": job.method, "training_seeds": list(job.seeds), "steps": steps, "checkpoint_every_steps": 0,
        "validation": {"every_steps": max(1, steps // VALIDATIONS), "keep": "best"}, **variant_settings,
    }  # fmt: skip
    variant |= {"rank": [16]} if job.method == "lora" else {}
    return {
        "subject": {"photos": str(photos.resolve()), "identifier": "sks", "class_noun": "cat face"},
        "base": {"model": base},
        "prepare": {"focus": "center", "zoom": "picture", "held_out": HELD_OUT},
        "measure": {"crop": "whole"},
        "variants": [variant],
    }


def chosen_steps(curve: Sequence[ValidationRecord], settings: Any) -> dict[str, int]:
    """The step that each rule delivers."""
    from limner.training import choose

    lowest = min(curve, key=lambda record: record.validation_loss)
    last = curve[-1].step
    return {"ours": choose(curve, settings, last).step, "last": last, "loss": lowest.step}


def early_stop(curve: Sequence[ValidationRecord], settings: Any) -> tuple[int, int]:
    """The step where training would have stopped early, and the one that it would have delivered."""
    from limner.training import choose

    patient = settings.model_copy(update={"patience": PATIENCE})
    choice = choose(curve, patient, curve[-1].step)
    return choice.stopped_at or curve[-1].step, choice.step


def carry_out(study: Path, out: Path, test_folder: Path, device: torch.device) -> list[dict[str, Any]]:
    """Train with every validated step's weights kept, and test those that a rule chooses."""
    from limner.config import Prepare
    from limner.opening import open_study
    from limner.running.run import Run
    from limner.stages.prepare import prepare

    run = Run(open_study(study, device=device), out, device)
    run.begin()
    kept = [
        patch(f"limner.{place}.drop_kept", lambda *given: None) for place in ("training.validation", "stages.train")
    ]
    with kept[0], kept[1]:
        trained = time.monotonic()
        adapters = run.adapters
        trained = time.monotonic() - trained
    settings = run.study.prepare.model_copy(update={"held_out": 0})
    test = prepare(test_folder, out / "test-photos", Prepare.model_validate(settings.model_dump()))
    tester = Tester(run, TestPhotos(out / "photos", test.files), device)
    rows = []
    for order, adapter in zip(run.runs, adapters, strict=True):
        row = tester.row(out / "work" / order.label, adapter.record.validation, order.variant.validation)
        rows.append({"seed": order.training_seed, "training_seconds": trained, **row})
    return rows


class Tester:
    """Renders and scores chosen weights with prompts and seeds that no validation had."""

    def __init__(self, run: Any, photos: PhotoSet, device: torch.device) -> None:
        from limner.config import Validation
        from limner.stages.validate import Scorer

        self.base, self.subject = run.training_base(), run.study.subject
        self.settings = Validation(prompts=TEST_PROMPTS, count=TEST_COUNT, seed=TEST_SEED, every_steps=1)
        self.scorer = Scorer(
            lambda: self.base, run.opened.base, self.subject, self.settings, run.study.measure, photos,
            run.out / "work" / ".embeddings", device=device,
        )  # fmt: skip
        self.scorer.begin()

    def row(self, work: Path, curve: Sequence[ValidationRecord], settings: Any) -> dict[str, Any]:
        """What each rule chose of one training, and what that scores."""
        steps = chosen_steps(curve, settings)
        stopped, after_stop = early_stop(curve, settings)
        tested = {step: self.test(work, step) for step in {*steps.values(), after_stop}}
        return {
            "curve": [record.to_json() for record in curve],
            "steps": steps,
            "tested": {rule: tested[step] for rule, step in steps.items()},
            "early": {"stopped": stopped, "tested": tested[after_stop]},
        }

    def test(self, work: Path, step: int) -> dict[str, float]:
        """The scores of one step's weights."""
        from limner.adapters import attached, load_adapter
        from limner.base import placed
        from limner.rendering.validation import validation_pictures, validation_prompts
        from limner.training import joined
        from limner.training.validation import kept_folder

        prompts = validation_prompts(self.subject, self.settings)
        adapter = load_adapter(kept_folder(work, step), content_hash="not grouped by")
        with placed(self.base, "unet", "text_encoder"), attached(self.base.modules(), adapter):
            record = self.scorer(step, validation_pictures(self.base, prompts, TEST_SEED))
        if record.likeness_share is None or record.fidelity_share is None:
            raise LimnerError("this base's pictures do not tell prompts or subjects apart: there is nothing to compare")
        shares = record.likeness_share, record.fidelity_share
        own = {"score": joined(*shares), "halves": statistics.fmean(min(share, 1.0) for share in shares)}
        return own | {name: value for name, value in record.to_json().items() if name in MEASURES}


def by_subject(rows: Sequence[Mapping[str, Any]], rule: str, measure: str) -> dict[str, float]:
    """One measure of one rule's choices by subject: the mean over its methods, of each that over training seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        tested = row["early"]["tested"] if rule == "early" else row["tested"][rule]
        values.setdefault(row["subject"], {}).setdefault(row["method"], []).append(tested[measure])
    return {
        subject: statistics.fmean(statistics.fmean(of_seeds) for of_seeds in methods.values())
        for subject, methods in sorted(values.items())
    }


def difference(rows: Sequence[Mapping[str, Any]], other: str, measure: str) -> Described | Estimated:
    """Ours less another rule's, paired over subjects."""
    ours, theirs = (by_subject(rows, rule, measure) for rule in ("ours", other))
    found = over_seeds([ours[name] - theirs[name] for name in ours], None, len(ours), "paired")
    assert isinstance(found, Described | Estimated)
    return found


def difference_cell(found: Described | Estimated) -> str:
    """The difference with its 95% interval, where subjects are enough for one."""
    if isinstance(found, Described):
        return f"{found.difference:+.3f} ({found.reason})"
    low, high = found.interval
    return f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}]{' *' if low > 0 or high < 0 else ''}"


def choosing_markdown(rows: Sequence[Mapping[str, Any]], wanted: int, steps: Mapping[str, int]) -> str:
    """The tables, and what they are of."""
    lines = ["## Choosing the checkpoint", "", machine_line(), ""]
    methods = [name for name in METHODS if any(row["method"] == name for row in rows)]
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        lines += [f"### {method}, {steps[method]} steps: {_counted(own)}", "", *_compared(own), ""]
        for rule in RULES:
            taken = statistics.median(row["steps"][rule] for row in own)
            lines.append(f"- {TOLD[rule]}: median step {taken:.0f}.")
        spent = statistics.fmean(row["early"]["stopped"] for row in own) / steps[method]
        early = statistics.fmean(by_subject(own, "early", "score").values())
        lines += [f"- With patience {PATIENCE} {spent:.0%} of the steps are taken; score {early:.3f}.", ""]
    if len(methods) > 1:
        whole = set.intersection(*({row["subject"] for row in rows if row["method"] == name} for name in methods))
        own = [row for row in rows if row["subject"] in whole]
        lines += [f"### all methods, each counting the same: {_counted(own)}", "", *_compared(own), ""]
    lines += [
        f"- {len(rows)} of {wanted} trainings done. {len(TEST_PROMPTS) * TEST_COUNT} pictures of each choice, prompts "
        f"and seeds of their own, likeness to {TEST_PHOTOS} photos that neither training nor validation saw.",
        "- Likeness: share of the span from the base's renders to real photos. Prompt fidelity: share of that from a "
        "picture of another prompt to the base's own. [95% t interval over subjects]; * excludes zero.",
    ]
    return "\n".join(lines) + "\n"


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{len({row['subject'] for row in rows})} subjects, {len(rows)} trainings"


def _compared(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| measure | ours | last | loss | ours - last | ours - loss |", "|---|---|---|---|---|---|"]
    for measure, told in MEASURES.items():
        means = [statistics.fmean(by_subject(rows, rule, measure).values()) for rule in RULES]
        pairs = [difference_cell(difference(rows, rule, measure)) for rule in ("last", "loss")]
        lines.append(f"| {told} | {' | '.join(f'{mean:.3f}' for mean in means)} | {' | '.join(pairs)} |")
    return lines


@dataclass
class Plan:
    """What the command was asked for."""

    work: Path
    subjects: Path
    base: str
    device: str
    processes: int
    seconds: float
    steps: dict[str, int]
    names: Sequence[str] = ()
    seeds: Sequence[int] = TRAINING_SEEDS
    methods: Sequence[str] = METHODS
    variant: Mapping[str, Any] = field(default_factory=dict)  # settings of every variant beside the recommended


def recommended_steps(base: str, factor: float) -> dict[str, int]:
    """As many steps as the base recommends, times a factor."""
    from limner.base import find_base

    own = find_base(base).defaults.get("variants", {})
    return {method: round(own.get(method, {}).get("steps", 800) * factor) for method in METHODS}


def choosing(plan: Plan) -> str:
    """All jobs, `processes` at once, until the time is up; the table of what is whole by then."""
    ends = time.monotonic() + plan.seconds
    fewest = TEST_PHOTOS + HELD_OUT + 4
    folders = [folder for folder in sorted(plan.subjects.iterdir()) if folder.is_dir()]
    enough = [folder.name for folder in folders if len(list(folder.iterdir())) >= fewest]
    names = [name for name in enough if not plan.names or name in plan.names]
    jobs = jobs_of(names, plan.seeds, plan.methods)
    gpus = max(1, torch.cuda.device_count())

    def take(numbered: tuple[int, Job]) -> list[dict[str, Any]]:
        number, job = numbered
        return _rows(plan, job, number % gpus, ends)

    with ThreadPoolExecutor(plan.processes) as pool:
        rows = [row for done in pool.map(take, enumerate(jobs)) for row in done]
    plan.work.mkdir(parents=True, exist_ok=True)
    (plan.work / "choosing.json").write_text(json.dumps(rows), encoding="utf-8")
    wanted = sum(len(job.seeds) for job in jobs)
    return choosing_markdown(rows, wanted, plan.steps) if rows else f"no training of {wanted} was done in time\n"


def _rows(plan: Plan, job: Job, gpu: int, ends: float) -> list[dict[str, Any]]:
    """One job's rows in a process of its own; none where the time is up or the process failed."""
    if time.monotonic() >= ends:
        return []
    folder = plan.work / "choosing" / job.name
    shutil.rmtree(folder, ignore_errors=True)
    photos, test = split_photos(plan.subjects / job.subject, folder / "parts")
    study = write_toml(folder, choosing_tables(job, photos, plan.base, plan.steps[job.method], plan.variant))
    record = folder / "record.json"
    extra = {"OMP_NUM_THREADS": "1"}
    if plan.device == "cuda" and torch.cuda.device_count() > 1:
        extra["CUDA_VISIBLE_DEVICES"] = str(gpu)
    process = start_module(
        "bench.choosing", record, [study, folder / "run", "--test", test, "--device", plan.device], extra=extra
    )
    try:
        process.wait(max(0.1, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()  # its work is of no use half done
        process.wait()
        return []
    if not record.exists():
        log = record.with_suffix(".log").read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join([f"{job.name} failed:", *log[-TAIL_LINES:]]), flush=True)
        return []
    rows = json.loads(record.read_text(encoding="utf-8"))
    print(f"  {job.name}: {rows[0]['training_seconds']:.0f} s of training and validation", flush=True)
    return [{"subject": job.subject, "method": job.method, **row} for row in rows]


def main() -> None:
    """One job."""
    parser = argparse.ArgumentParser(prog="python -m bench.choosing", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    from limner.base.devices import choose_device

    rows = carry_out(options.study, options.out, options.test, choose_device(options.device))
    options.record.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
