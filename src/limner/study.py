"""The corridor: photos, adapters, renders, scores, report. One study from its file to its report.

Every stage leaves an artefact on disk and makes nothing again that is current, so a run that was stopped goes
on where it stopped, and a changed study redoes only what the change touches. What is to do is planned first
(`running.plan`, one method a stage), then carried out (`running.here`), stage by stage in the order of `STAGES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from limner.artifacts import require_folder, require_space, sweep_unfinished
from limner.opening import expected_bytes, open_study, with_photos_kept
from limner.progress import SILENT, Progress
from limner.running.here import carry_out, nothing_left_behind
from limner.running.lease import hold
from limner.running.plan import Plan, Stage, make_plan
from limner.running.run import Run

RUNS = Path("runs")


def run_study(
    source: Path,
    out: Path | None = None,
    *,
    until: Stage = "report",
    device: torch.device | None = None,
    memory: str = "",
    keep: Sequence[str] = (),
    strict: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Take a study through the corridor, as far as `until`; returns the report, or the run's folder before it.

    `memory` is "auto" or the GiB of GPU memory to do with; left out, the study and the run that has begun decide.
    `keep` names photos that are used whatever their size, beside those that the study names. Raises RunInUseError
    when another process works in the run's folder.
    """
    run = open_run(source, out, device, memory, keep, strict)
    require_folder(run.out)
    require_space(run.out, expected_bytes(run.opened))
    with nothing_left_behind(run.out), hold(run.out, f"limner run {source}", progress):
        sweep_unfinished(run.out)
        result = carry_out(run, until, progress)
    return result if until == "report" else run.out


def plan_study(
    source: Path,
    out: Path | None = None,
    *,
    until: Stage = "report",
    device: torch.device | None = None,
    memory: str = "",
    keep: Sequence[str] = (),
) -> Plan:
    """What `run_study` with the same arguments would do; nothing is written and no weight is loaded."""
    return make_plan(open_run(source, out, device, memory, keep), until)


def open_run(
    source: Path,
    out: Path | None = None,
    device: torch.device | None = None,
    memory: str = "",
    keep: Sequence[str] = (),
    strict: bool = False,
) -> Run:
    """The study, read and checked, with the folder of its run. Raises StudyError with every fault at once."""
    out, device = out or RUNS / source.stem, device or torch.device("cpu")
    opened = open_study(source, device=device, memory=memory, run_folder=out)
    return Run(with_photos_kept(opened, keep), out, device, strict)
