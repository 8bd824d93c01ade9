"""Carries a plan out in this process: tasks in their order, what is current passed by, everything said as events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from limner.config import stacks_of
from limner.errors import InputError, LimnerError
from limner.events import ArtefactMade, Ended, Event, Failed, Progressed, Started
from limner.opening import LOCK
from limner.progress import Progress, StopAskedError
from limner.running.commands import COMMANDS, Inbox
from limner.running.plan import STAGES, Plan, Stage, Task, make_plan
from limner.running.record import EVENTS, EventFile
from limner.running.run import Run
from limner.running.timings import Timings

INTERRUPTED = 130  # exit code of Ctrl-C and of the command to stop


class Teller(Progress):
    """What the stages of a run report to: adds the task and what is left of the run, writes it down, passes it on."""

    def __init__(self, run: Path, heard: Progress) -> None:
        self.inbox, self.file = Inbox(run), EventFile(run)
        super().__init__(self.file, heard.emit, every_seconds=heard.every_seconds, look=self.inbox)
        self.task_name = ""
        self.seconds_after: float | None = None  # of the tasks behind the one under way
        self.paces: list[Progressed] = []
        """The last event of each activity of the task under way."""

    def emit(self, event: Event) -> None:
        """Hand an event on, with what the stage does not know of it."""
        if isinstance(event, Progressed):
            left = None
            if event.seconds_left is not None and self.seconds_after is not None and not event.activity:
                left = event.seconds_left + self.seconds_after
            event = event.model_copy(update={"task": self.task_name, "run_seconds_left": left})
            if event.last:
                self.paces.append(event)
        super().emit(event)


def carry_out(run: Run, until: Stage, heard: Progress) -> Any:
    """Do what is to do as far as `until`; returns what that stage leaves. The folder has to be held by this process."""
    teller = Teller(run.out, heard)
    began = time.monotonic()
    run.progress = teller
    ended = Ended()
    try:
        teller.inbox.refuse_old(teller)
        plan = make_plan(run, until)
        run.current = frozenset(task.name for task in plan.tasks if task.current)
        expected = plan.expected_seconds
        teller.emit(Started(what=f"run until {until}", tasks=len(plan.to_do), expected_seconds=expected))
        return _through(plan, run, until, teller)
    except BaseException as error:
        ended = _ended_by(error)
        if ended.outcome == "failed" and not teller.task_name:  # else its tasks have said so
            teller.emit(Failed(error=type(error).__name__, message=str(error)))
        raise
    finally:
        teller.emit(ended.model_copy(update={"seconds": time.monotonic() - began}))
        teller.file.close()
        _tidy(run.out)


def _ended_by(error: BaseException) -> Ended:
    """How an error ends a run."""
    if isinstance(error, KeyboardInterrupt):
        outcome = "stopped" if isinstance(error, StopAskedError) else "interrupted"
        return Ended(outcome=outcome, exit_code=INTERRUPTED)
    return Ended(outcome="failed", exit_code=error.exit_code if isinstance(error, LimnerError) else 1)


def _through(plan: Plan, run: Run, until: Stage, teller: Teller) -> Any:
    result: Any = None
    clock = StageClock()
    for stage in STAGES[: STAGES.index(until) + 1]:
        groups: dict[str, list[Task]] = {}
        for task in plan.to_do:
            if task.stage == stage:
                groups.setdefault(task.group, []).append(task)
        for tasks in groups.values():
            with _under_way(tasks, plan, teller):
                _do(run, stage, tasks)
        result = _artefact(run, stage)
        if stage == "prepare":
            run.begin()
        clock.ends(stage)
    clock.tell(teller)
    return result


def _do(run: Run, stage: Stage, tasks: Sequence[Task]) -> None:
    """Make what one group of tasks leaves."""
    labels = {task.name.removeprefix("train ") for task in tasks}
    if stage != "train":
        _artefact(run, stage)
    elif labels <= run.opened.imported.keys():
        _ = run.imported
    else:
        run.trained(next(runs for runs in stacks_of(run.runs) if labels <= {one.label for one in runs}))


def _artefact(run: Run, stage: Stage) -> Any:
    """What a stage leaves, made now unless it is there."""
    made = {
        "prepare": lambda: run.photos,
        "class-images": lambda: run.class_set,
        "train": lambda: run.adapters,
        "render": lambda: run.renders,
        "control": lambda: run.controls,
        "measure": lambda: run.scores,
        "report": lambda: run.report,
    }
    return made[stage]()


@contextlib.contextmanager
def _under_way(tasks: Sequence[Task], plan: Plan, teller: Teller) -> Iterator[None]:
    """Tell of a group of tasks; remember how long its kind of work took."""
    to_do = plan.to_do
    later = [task.expected_seconds for task in to_do[to_do.index(tasks[-1]) + 1 :]]
    teller.seconds_after = None if None in later else sum(each for each in later if each is not None)
    teller.paces.clear()
    for task in tasks:
        number, expected = to_do.index(task) + 1, task.expected_seconds
        started = Started(task=task.name, stage=task.stage, place=number, tasks=len(to_do), expected_seconds=expected)
        teller.emit(started)
        teller.task_name = task.name
    began = time.monotonic()
    try:
        yield
    except BaseException as error:
        _tell_of_failure(error, tasks, teller, time.monotonic() - began)
        raise
    seconds = time.monotonic() - began
    _remember(tasks, teller.paces, seconds)
    for task in tasks:
        for output in task.outputs:
            teller.emit(ArtefactMade(task=task.name, stage=task.stage, path=output))
        teller.emit(Ended(task=task.name, stage=task.stage, seconds=seconds))
    teller.task_name = ""


def _tell_of_failure(error: BaseException, tasks: Sequence[Task], teller: Teller, seconds: float) -> None:
    outcome = _ended_by(error).outcome
    for task in tasks:
        if outcome == "failed":
            failed = Failed(task=task.name, stage=task.stage, error=type(error).__name__, message=str(error))
            teller.emit(failed)
        teller.emit(Ended(task=task.name, stage=task.stage, outcome=outcome, seconds=seconds))


def _remember(tasks: Sequence[Task], paces: Sequence[Progressed], seconds: float) -> None:
    """Seconds a unit: of the activity that counts the task's units where there was one, else of all of it."""
    counted = [event for event in paces if not event.activity and event.stage == tasks[0].stage and event.step]
    units, spent = sum(event.step for event in counted), sum(event.seconds for event in counted)
    if not counted:
        units, spent = sum(task.units for task in tasks), seconds
    if units and spent:
        Timings().note(tasks[0].work, spent / units / len(tasks))


class StageClock:
    """How long each stage took, in the order they ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def ends(self, stage: str) -> None:
        """What passed since the stage before it ended, or since the start, is this stage's."""
        now = time.monotonic()
        self.seconds[stage], self._last = now - self._last, now

    def tell(self, progress: Progress) -> None:
        """One line with the stages that took a second or more; none where all was current."""
        long = [f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items() if seconds >= 1]
        if long:
            progress.notice(f"took {sum(self.seconds.values()):.0f} s: {', '.join(long)}")


def _tidy(run: Path) -> None:
    with contextlib.suppress(OSError):  # not there, or not empty
        (run / COMMANDS).rmdir()


@contextlib.contextmanager
def nothing_left_behind(run: Path) -> Iterator[None]:
    """A run whose input proves wrong before anything is made leaves no folder and no events."""
    made = [folder for folder in [run, *run.parents] if not folder.exists()]
    try:
        yield
    except InputError:
        if not (run / LOCK).exists():
            (run / EVENTS).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                for folder in made:
                    folder.rmdir()
        raise
