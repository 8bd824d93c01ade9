"""Every error a user can meet, and the exit code it ends a command with.

LimnerError            something failed; exit code 1
  InputError           the input is wrong and nothing was started; exit code 2
    StudyError         the study file; carries all its faults at once
    PhotoError         photos: none there, none usable, or one refused under --strict
    BaseError          the base model: unknown, absent, of another family
      WeightsError     a weight file: damaged, or no weight file at all
    AdapterError       an adapter: wrong format, keys that find no place
    EmbedderError      a model that measures: unknown, absent, unfit
    PromptError        a prompt: unknown placeholder, subject cut off
    DiskError          no space, no permission, a folder in the way
    RunInUseError      another process works in the run's folder
    RecordError        a record on disk: absent, damaged, of another stage
      NewerRecordError   written by a newer limner
  NotFiniteError       a number to be written down is NaN or infinite

A message says what is wrong, which value was met and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence


class LimnerError(Exception):
    """Something failed. The message is one line that a user can act on."""

    exit_code = 1


class InputError(LimnerError):
    """The input is wrong; no work was started and nothing was written."""

    exit_code = 2


class StudyError(InputError):
    """A study file with faults, all of which are listed."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        listed = "; ".join(self.faults) if len(self.faults) == 1 else "\n  - " + "\n  - ".join(self.faults)
        super().__init__(f"{source}: {listed}")


class PhotoError(InputError):
    """No photo can be used, or one was refused and the caller asked for strictness."""


class BaseError(InputError):
    """The base model is unknown, absent, damaged or of a family that limner does not train."""


class WeightsError(BaseError):
    """A file of weights is damaged, or is something else: a web page, a pointer, a picture."""


class AdapterError(InputError):
    """An adapter cannot be read, or some of its keys find no place in the base."""


class EmbedderError(InputError):
    """A model that turns pictures or prompts into embeddings is unknown, absent or unfit for its use."""


class PromptError(InputError):
    """A prompt has an unknown placeholder or loses its subject when cut to 77 tokens."""


class DiskError(InputError):
    """The disk is full, a folder cannot be written, or something else lies where a result should go."""


class RunInUseError(InputError):
    """Another process works in this run's folder; the message names it."""


class RecordError(InputError):
    """A manifest or another record on disk is absent, damaged, or another stage's."""


class NewerRecordError(RecordError):
    """A record on disk was written by a newer limner than this one."""


class NotFiniteError(LimnerError):
    """A number that is to be written into a record is NaN or infinite."""
