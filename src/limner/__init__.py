"""limner: teach Stable Diffusion 1.5 one subject from a handful of photos, and say how well it worked.

The names below are read when they are first asked for, so that `import limner` loads neither torch nor a model.
docs/python.md shows them at work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from limner.api.pipelines import LoadedAdapter, load_into
    from limner.api.run_folder import RunFolder, open_run
    from limner.api.stages import control, measure, plan, prepare, render, render_prompt, report, run, train
    from limner.artifacts import AdapterFolder, ClassSet, PhotoSet, RenderSet, ScoreTable
    from limner.config import (
        AdapterFile,
        BaseSettings,
        ClassImages,
        Control,
        ControlReference,
        FullVariant,
        LoraVariant,
        Measure,
        Memory,
        Prepare,
        Render,
        RenderPrompt,
        Report,
        Study,
        Subject,
        Validation,
    )
    from limner.errors import (
        AdapterError,
        BaseError,
        DiskError,
        EmbedderError,
        InputError,
        LimnerError,
        PhotoError,
        PromptError,
        RunInUseError,
        StudyError,
        WeightsError,
    )
    from limner.running.plan import Plan

__all__ = [
    "AdapterError",
    "AdapterFile",
    "AdapterFolder",
    "BaseError",
    "BaseSettings",
    "ClassImages",
    "ClassSet",
    "Control",
    "ControlReference",
    "DiskError",
    "EmbedderError",
    "FullVariant",
    "InputError",
    "LimnerError",
    "LoadedAdapter",
    "LoraVariant",
    "Measure",
    "Memory",
    "PhotoError",
    "PhotoSet",
    "Plan",
    "Prepare",
    "PromptError",
    "Render",
    "RenderPrompt",
    "RenderSet",
    "Report",
    "RunFolder",
    "RunInUseError",
    "ScoreTable",
    "Study",
    "StudyError",
    "Subject",
    "Validation",
    "WeightsError",
    "__version__",
    "control",
    "load_into",
    "measure",
    "open_run",
    "plan",
    "prepare",
    "render",
    "render_prompt",
    "report",
    "run",
    "train",
]

_ROOMS = {
    "limner.api.pipelines": ("LoadedAdapter", "load_into"),
    "limner.api.run_folder": ("RunFolder", "open_run"),
    "limner.api.stages": ("control", "measure", "plan", "prepare", "render", "render_prompt", "report", "run", "train"),
    "limner.artifacts": ("AdapterFolder", "ClassSet", "PhotoSet", "RenderSet", "ScoreTable"),
    "limner.config": (
        "AdapterFile", "BaseSettings", "ClassImages", "Control", "ControlReference", "FullVariant", "LoraVariant",
        "Measure", "Memory", "Prepare", "Render", "RenderPrompt", "Report", "Study", "Subject", "Validation",
    ),
    "limner.errors": (
        "AdapterError", "BaseError", "DiskError", "EmbedderError", "InputError", "LimnerError", "PhotoError",
        "PromptError", "RunInUseError", "StudyError", "WeightsError",
    ),
    "limner.running.plan": ("Plan",),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Read a public name from its room, once."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'limner' has no attribute {name!r}; docs/python.md lists the public names")
    value = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
