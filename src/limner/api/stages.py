"""One function for each stage and one for all of them, with plain arguments.

Those of a study make first what comes before and is not current, as the commands of the same names do. Whatever is
current is not made again, so a call that was interrupted goes on where it stopped when it is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from limner.api.listening import progress_for
from limner.api.run_folder import RunFolder
from limner.api.sources import StudyLike, study_file, study_file_to_read
from limner.artifacts import PhotoSet
from limner.base.devices import choose_device
from limner.config import Prepare
from limner.errors import InputError
from limner.progress import Listener
from limner.quick_look import quick_look
from limner.running.plan import Plan
from limner.stages.prepare import prepare as prepare_photos
from limner.study import RUNS, Stage, plan_study, run_study

Gib = float | Literal["auto"]


def run(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    until: Stage = "report",
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    strict: bool = False,
    on_event: Listener | None = None,
) -> RunFolder:
    """Take a study from its photos to its report, as far as the stage `until`; returns the run's folder.

    `study` is a study file, a dict of the same tables, or a `Study`. A file's paths are relative to the file, others to
    the current folder; what is no file is written to `out/study.toml`, with which `limner run` goes on as well. `out`
    is the run's folder, for a file runs/NAME unless given.

    `device` is "auto", "cuda", "mps" or "cpu". `memory_gib` is the GPU memory to do with, in GiB, or "auto"; left out,
    the study and the run that has begun decide. `keep` names photos to use although they are too small or too large;
    `strict` refuses a set of photos when a single one cannot be used. `on_event` is called with every event of the run
    (`limner.events`), from the thread that works, so it should be quick; left out, a bar is shown in a notebook and on
    a terminal, and nothing elsewhere.

    Raises StudyError with every fault at once, PhotoError, BaseError and the other kinds of InputError before anything
    is trained; LimnerError for what fails later, after saving what can be resumed.
    """
    folder = None if out is None else Path(out)
    with study_file(study, folder) as file:
        folder = folder or RUNS / file.stem
        run_study(
            file,
            folder,
            until=until,
            device=choose_device(device),
            memory="" if memory_gib is None else str(memory_gib),
            keep=keep,
            strict=strict,
            progress=progress_for(on_event),
        )
    return RunFolder(folder)


def plan(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    until: Stage = "report",
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
) -> Plan:
    """What `run` with the same arguments would do; no weight is loaded and nothing is written.

    The plan's `tasks` have a name, a key, the tasks that they wait for, whether they are current, expected seconds and
    the GiB of a GPU; `to_do` are those that are not current. Raises as `run` does before anything is trained.
    """
    memory = "" if memory_gib is None else str(memory_gib)
    with study_file_to_read(study, folder := None if out is None else Path(out)) as file:
        return plan_study(file, folder, until=until, device=choose_device(device), memory=memory, keep=keep)


def train(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    on_event: Listener | None = None,
) -> RunFolder:
    """Train every variant of a study. Arguments, result and errors are those of `run`; see `RunFolder.adapters`."""
    return run(study, out, until="train", device=device, memory_gib=memory_gib, keep=keep, on_event=on_event)


def render(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    on_event: Listener | None = None,
) -> RunFolder:
    """Render every prompt and seed with the untouched base and with every variant.

    Arguments, result and errors are those of `run`; see `RunFolder.renders`. For one picture see `render_prompt`.
    """
    return run(study, out, until="render", device=device, memory_gib=memory_gib, keep=keep, on_event=on_event)


def control(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    on_event: Listener | None = None,
) -> RunFolder:
    """Render a study's references through ControlNet-canny with the untouched base and with every variant.

    Arguments, result and errors are those of `run`; see `RunFolder.controls`, which is None without references.
    """
    return run(study, out, until="control", device=device, memory_gib=memory_gib, keep=keep, on_event=on_event)


def measure(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    on_event: Listener | None = None,
) -> RunFolder:
    """Score every picture of a study: likeness, prompt fidelity, copying, agreement of edges.

    Arguments, result and errors are those of `run`; see `RunFolder.scores`. A model that is not there is left out and
    named in the score table.
    """
    return run(study, out, until="measure", device=device, memory_gib=memory_gib, keep=keep, on_event=on_event)


def report(
    study: StudyLike,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    memory_gib: Gib | None = None,
    keep: Sequence[str] = (),
    on_event: Listener | None = None,
) -> RunFolder:
    """Write a study's comparison up as one page. Arguments, result and errors are those of `run`, which this is."""
    return run(study, out, until="report", device=device, memory_gib=memory_gib, keep=keep, on_event=on_event)


def prepare(
    photos: str | Path,
    out: str | Path,
    *,
    size_px: int = 512,
    shape: Literal["square", "buckets"] = "square",
    focus: Literal["auto", "face", "cat", "dog", "saliency", "center"] = "auto",
    zoom: Literal["picture", "head"] = "picture",
    keep: Sequence[str] = (),
    strict: bool = False,
    on_event: Listener | None = None,
) -> PhotoSet:
    """Crop the pictures in the folder `photos` around their subject into the folder `out`; a study does it by itself.

    Crops are squares of `size_px`, or with `shape="buckets"` near the shape of each photo and of at most the square's
    area. `focus` says what to crop around, `zoom="head"` crops closer, `keep` names photos to use although they are too
    small or too large. Returns the crops (`files`), where each came from (`photos`) and what was left out (`refused`).

    Raises PhotoError without photos that can be used, or with `strict` when one cannot; InputError for a setting that
    is not possible; DiskError where `out` holds something else.
    """
    wanted = {"size_px": size_px, "shape": shape, "focus": focus, "zoom": zoom, "keep": list(keep)}
    try:
        settings = Prepare.model_validate(wanted)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InputError(f"prepare: {'; '.join(faults)}") from None
    return prepare_photos(Path(photos), Path(out), settings, strict=strict, progress=progress_for(on_event))


def render_prompt(
    adapter: str | Path,
    prompt: str,
    seed: int = 0,
    *,
    scale: float = 1.0,
    base: str = "",
    out: str | Path | None = None,
    device: str = "auto",
) -> Path:
    """Render one picture with an adapter, as its run's study renders; returns the PNG's path.

    `adapter` is an adapter's folder of a run, or another program's LoRA, for which `base` names the base. `prompt` may
    use {subject}, {identifier} and {class_noun} where the adapter lies in a run. `scale` multiplies low-rank updates.
    `out` is a file or an existing folder; left out, ADAPTER-SEED.png in the current folder.

    Raises AdapterError for what is no adapter, PromptError for an unknown placeholder, BaseError for a base that is
    not known.
    """
    out_path = None if out is None else Path(out)
    return quick_look(
        Path(adapter), prompt, seed, strength=scale, base=base, out=out_path, device=choose_device(device)
    )
