"""What happens during a run, as typed records: to whoever listens, and one JSON line each in RUN/events.jsonl.

A line's `type` says which it is. Fields may be added later: readers pass over what they do not know.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

CommandName = Literal["stop", "save", "validate"]


class Happening(BaseModel):
    """What all events have."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    time: float = Field(default_factory=time.time)
    """Seconds since 1970, UTC."""


class Started(Happening):
    """A run began, or one task of its plan."""

    type: Literal["started"] = "started"
    """Which event it is."""
    task: str = ""
    """The task's name in the plan; empty for the run as a whole."""
    stage: str = ""
    """The task's stage."""
    what: str = ""
    """Of a run: what was called."""
    place: int = 0
    """Which of the tasks that are done this is, counted from 1."""
    tasks: int = 0
    """How many tasks there are to do."""
    expected_seconds: float | None = None
    """By the plan; null where it is not known."""


class Progressed(Happening):
    """How far one activity is: some steps, pictures or photos of a stage. The first has step 0, the last says so."""

    type: Literal["progress"] = "progress"
    """Which event it is."""
    task: str = ""
    """The task's name in the plan; of tasks in one group, the last one's."""
    stage: str
    """The stage that works."""
    activity: str = ""
    """What is done, where a stage does several things."""
    variants: tuple[str, ...] = ()
    """Those under way together."""
    step: int
    """How many units are done."""
    total: int
    """How many there are."""
    unit: str = "steps"
    """What is counted."""
    losses: dict[str, float] = {}
    """The newest known loss by variant."""
    learning_rates: dict[str, float] = {}
    """The learning rate that acted then."""
    seconds: float = 0.0
    """Since the activity began."""
    seconds_left: float | None = None
    """Of the activity, at its pace so far."""
    run_seconds_left: float | None = None
    """Of the whole run, by its plan; null where it is not known."""
    last: bool = False
    """Whether the activity has ended."""

    @property
    def title(self) -> str:
        """The stage and the variants or the activity, for people."""
        return " ".join(part for part in (self.stage, ", ".join(self.variants), self.activity) if part)


class Notice(Happening):
    """One line that the user should see."""

    type: Literal["notice"] = "notice"
    """Which event it is."""
    message: str
    """The line."""


class ArtefactMade(Happening):
    """Something is whole on disk."""

    type: Literal["artefact"] = "artefact"
    """Which event it is."""
    task: str = ""
    """The task that made it."""
    stage: str = ""
    """Its stage."""
    path: str
    """Relative to the run's folder."""


class Answered(Happening):
    """A command that was given through the run's folder was done, or refused."""

    type: Literal["command"] = "command"
    """Which event it is."""
    command: CommandName
    """What was asked for."""
    outcome: Literal["done", "refused"]
    """Whether it was done."""
    message: str = ""
    """What was done, or why not."""


class Failed(Happening):
    """The run, or one of its tasks, ended by an error."""

    type: Literal["failed"] = "failed"
    """Which event it is."""
    task: str = ""
    """The task that failed, of a group each in its own event; empty where none was under way."""
    stage: str = ""
    """Its stage."""
    error: str
    """The name of the error's type."""
    message: str
    """What the error says."""


class Ended(Happening):
    """A task, or the run as a whole, has ended."""

    type: Literal["ended"] = "ended"
    """Which event it is."""
    task: str = ""
    """The task that ended; empty for the run as a whole."""
    stage: str = ""
    """Its stage."""
    outcome: Literal["done", "failed", "stopped", "interrupted"] = "done"
    """How it ended: stopped is by a command, interrupted by Ctrl-C."""
    exit_code: int = 0
    """Of a run: what its process ends with, where the command line started it."""
    seconds: float = 0.0
    """How long it took; of tasks in one group, all of them together."""


Event = Started | Progressed | Notice | ArtefactMade | Answered | Failed | Ended
_READER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def event_of(record: Any) -> Event | None:
    """The event that a line's JSON says; None for what is none that is known here."""
    try:
        return _READER.validate_python(record)
    except ValidationError:
        return None
