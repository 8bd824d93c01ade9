"""The whole: photos of every subject prepared, their studies written and run, and their figures pooled as they end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from limner.artifacts import PhotoSet, read_record, require_folder, write_record, write_whole
from limner.base import find_base
from limner.config import Study, read_toml, resolve_study
from limner.errors import InputError, LimnerError, RecordError
from limner.progress import SILENT, Progress
from limner.records import PooledRecord, SubjectSummary
from limner.reporting.pooled import Pooled, markdown_of
from limner.reporting.pooled_chart import rank_chart
from limner.running.lease import hold
from limner.stages.prepare import prepare
from limner.subjects.folders import SubjectFolder, find_subjects, subject_tables, write_others, write_study
from limner.subjects.processes import FinishedProcess, Job, run_jobs
from limner.subjects.summary import SUMMARY, scores_of, summarise, variants_of

POOLED, README, CHART = "pooled.json", "README.md", "rank-likeness.svg"
Tables = Mapping[str, Any]


def run_subjects(
    template: Path,
    folder: Path,
    out: Path,
    *,
    device: str = "auto",
    processes: int = 1,
    seconds: float | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Run `template` for every sub-folder of photos in `folder`, each into `out`/NAME, and pool them.

    Returns the pooled page. A subject that fails is listed there and the others go on; after `seconds` what runs is
    stopped with its state saved, and what is measured is pooled. Raises InputError for what is wrong with all of them.
    """
    raw = read_toml(template)
    subject = raw.get("subject")
    noun = str(subject.get("class_noun", "")) if isinstance(subject, Mapping) else ""
    subjects = find_subjects(folder, noun)
    tables = {each.name: subject_tables(raw, template.parent, each) for each in subjects}
    return run_tables(subjects, tables, out, template.stem, device, processes, seconds, progress)


def run_tables(
    subjects: Sequence[SubjectFolder],
    tables: Mapping[str, Tables],
    out: Path,
    title: str,
    device: str = "auto",
    processes: int = 1,
    seconds: float | None = None,
    progress: Progress = SILENT,
) -> Path:
    """The same for the study of each subject by its name; `title` names the whole."""
    if processes < 1:
        raise InputError(f"--processes {processes}: at least one is needed")
    deadline = None if seconds is None else time.monotonic() + seconds
    require_folder(out)
    with hold(out, f"limner subjects into {out}", progress):
        return _run_held(subjects, tables, out, title, device, processes, deadline, progress)


def _run_held(
    subjects: Sequence[SubjectFolder],
    tables: Mapping[str, Tables],
    out: Path,
    title: str,
    device: str,
    processes: int,
    deadline: float | None,
    progress: Progress,
) -> Path:
    photos, faults = _prepared(subjects, tables, out, progress)
    jobs = [Job(name, _write(name, subjects, tables, photos, out), out / name) for name in photos]
    for name, fault in faults.items():
        progress.notice(f"{name}: {fault}")
    page = pool_runs(out, title, [each.name for each in subjects], faults)
    with progress.task("subjects", len(jobs), unit="subjects") as advance:
        for ended in run_jobs(jobs, device=device, processes=processes, deadline=deadline):
            if fault := ended.fault or _summarised(ended, out):
                faults[ended.name] = fault
            progress.notice(f"{ended.name}: {fault or f'{ended.seconds:.0f} s'}")
            page = pool_runs(out, title, [each.name for each in subjects], faults)
            advance(1)
    return page


def pool_runs(out: Path, title: str, names: Sequence[str], faults: Mapping[str, str] = {}) -> Path:
    """Pool what is measured of `names`: pooled.json, README.md and, with ranks, a chart. Returns the README."""
    summaries, unread = [], {}
    for name in names:
        if name not in faults and (out / name / SUMMARY).exists():
            try:
                summaries.append(read_record(out / name / SUMMARY, SubjectSummary))
            except RecordError as error:
                unread[name] = str(error)
    record = PooledRecord(title=title, subjects=summaries, faults={**faults, **unread})
    write_record(out / POOLED, record)
    write_page(pooled_of(record), out / README, out / CHART)
    return out / README


def pooled_of(record: PooledRecord) -> Pooled:
    """What a pooled.json holds, as reports read it."""
    summaries = record.subjects
    scores = [scores_of(summary) for summary in summaries]
    return Pooled(record.title, scores, variants_of(summaries), summaries, record.faults)


def write_page(pooled: Pooled, page: Path, chart: Path) -> None:
    """The page in Markdown and the chart beside it."""
    if drawn := rank_chart(pooled):
        write_whole(chart, drawn.encode())
    write_whole(page, markdown_of(pooled, chart.name if drawn else "").encode())


def _prepared(
    subjects: Sequence[SubjectFolder], tables: Mapping[str, Tables], out: Path, progress: Progress
) -> tuple[dict[str, PhotoSet], dict[str, str]]:
    """The crops of every subject, which the others' runs look at too, and what is wrong with the rest."""
    studies = {each.name: _resolved(tables[each.name], each.name) for each in subjects}
    photos: dict[str, PhotoSet] = {}
    faults: dict[str, str] = {}

    def take(subject: SubjectFolder) -> None:
        settings = studies[subject.name].prepare
        try:
            photos[subject.name] = prepare(subject.photos, out / subject.name / "photos", settings)
        except LimnerError as error:
            faults[subject.name] = str(error)

    with (
        progress.task("prepare", len(subjects), "photos of subjects", unit="subjects") as advance,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for _ in pool.map(take, subjects):
            advance(1)
    return {each.name: photos[each.name] for each in subjects if each.name in photos}, faults


def _resolved(tables: Tables, name: str) -> Study:
    base = tables.get("base", {})
    location = find_base(str(base.get("model", "miniature")), str(base.get("revision", "")))
    return resolve_study(tables, location.defaults, name)


def _write(
    name: str,
    subjects: Sequence[SubjectFolder],
    tables: Mapping[str, Tables],
    photos: Mapping[str, PhotoSet],
    out: Path,
) -> Path:
    """A subject's study; the photos of others of its class are those among which it has to be found."""
    study_tables = dict(tables[name])
    nouns = {each.name: each.class_noun for each in subjects}
    others = [photos[other] for other in photos if other != name and nouns[other] == nouns[name]]
    measure = dict(study_tables.get("measure", {}))
    if "others" not in measure and write_others(out / name, others):
        study_tables["measure"] = {**measure, "others": "others"}
    return write_study(study_tables, out / name)


def _summarised(ended: FinishedProcess, out: Path) -> str:
    """Write the summary of a run that has ended well; what is wrong with it, else nothing."""
    try:
        summarise(ended.name, out / ended.name)
        return ""
    except (LimnerError, OSError, ValueError, KeyError) as error:
        return f"its scores cannot be read ({type(error).__name__}: {error})"
