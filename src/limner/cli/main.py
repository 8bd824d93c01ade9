"""Commands. Every one parses, calls one public function and prints where the result is."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from limner import __version__
from limner.cli import lora, models, running
from limner.cli.options import Device, Json, device_named, print_path
from limner.cli.signals import ENDED, SIGNALLED, sigterm_as_ctrl_c
from limner.errors import InputError, LimnerError
from limner.escaping import printable

app = typer.Typer(
    name="limner",
    help="Teach Stable Diffusion 1.5 one subject from a handful of photos, and measure how well each way worked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyFile = Annotated[Path, typer.Argument(help="Study file (.toml).", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME of the study file if left out.")]
Memory = Annotated[str, typer.Option(help="GPU memory to use: auto, or GiB such as 6, 8, 12, 16, 24.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop when a single photo cannot be used.")]
Keep = Annotated[list[str] | None, typer.Option(help="A photo to use even if too small or large; can be repeated.")]
Processes = Annotated[int, typer.Option(min=1, help="Subjects at once; several GPUs are taken in turn.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and the result.")]
Seconds = Annotated[float | None, typer.Option(help="Stop after this time; reports what is measured by then.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same bits in every run, on a GPU too (slower).")
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"limner {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_tell_version)]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Version = False,
) -> None:
    """Hold the options that come before a command; `main` looks for --debug itself."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    photos: Annotated[Path | None, typer.Option(help="Your own photos of one cat or dog.")] = None,
    class_noun: Annotated[str, typer.Option(help="What the subject is: cat face or dog face.")] = "cat face",
    device: Device = "auto",
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """The whole corridor on the embedded miniature, from one photo that ships with limner (or yours) to a report.

    Example: `limner demo --photos ~/pictures/felix`
    """
    from limner.demo import run_demo

    path = run_demo(out, photos, class_noun, device=device_named(device), progress=_progress(quiet))
    print_path("report", path, json_output)


@app.command()
def run(
    study: StudyFile,
    out: Out = None,
    device: Device = "auto",
    memory: Memory = "",
    keep: Keep = None,
    strict: Strict = False,
    deterministic: Deterministic = False,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """The whole corridor of a study; run again to go on where it stopped.

    Example: `limner run configs/coursework-a.toml --out runs/a`
    """
    _run_until("report", study, out, device, strict, deterministic, json_output, memory, keep, quiet)


@app.command()
def subjects(
    template: Annotated[Path, typer.Argument(help="Study (.toml) that is run for each subject.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder with a folder of photos a subject.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of all runs and of their pooled results.")],
    device: Device = "auto",
    processes: Processes = 1,
    seconds: Seconds = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """One study over many subjects: each is trained and measured, then all are taken together in figures.

    Class nouns come from subjects.csv (subject_name,class) in FOLDER, else from the study. Run again to go on.

    Example: `limner subjects configs/eight-cats.toml cats --out runs/cats --processes 4`
    """
    from limner.subjects import run_subjects

    path = run_subjects(
        template, folder, out, device=_checked(device), processes=processes, seconds=seconds, progress=_progress(quiet)
    )
    print_path("report", path, json_output)


@app.command()
def dreambench(
    folder: Annotated[Path, typer.Argument(help="Folder with a folder of photos a subject.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of all runs and of the table.")],
    base: Annotated[str, typer.Option(help="Base: miniature, a hub id, a folder or a file.")] = "miniature",
    study: Annotated[Path | None, typer.Option(help="Study whose tables, such as variants, come first.")] = None,
    device: Device = "auto",
    processes: Processes = 1,
    seconds: Seconds = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """The DreamBench protocol: 25 prompts a subject, four pictures each, beside the published figures.

    FOLDER is DreamBench's `dataset`, or any with a subjects.csv (subject_name,class). Run again to go on.

    Example: `limner dreambench dreambooth/dataset --base stable-diffusion-v1-5/stable-diffusion-v1-5 --out runs/db`
    """
    from limner.dreambench import run_dreambench

    path = run_dreambench(
        folder,
        out,
        base,
        study,
        device=_checked(device),
        processes=processes,
        seconds=seconds,
        progress=_progress(quiet),
    )
    print_path("report", path, json_output)


@app.command()
def prepare(
    photos: Annotated[Path, typer.Argument(help="Folder of photos.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the crops and their manifest.")],
    size: Annotated[int, typer.Option(help="Side of square crops in pixels.")] = 512,
    focus: Annotated[str, typer.Option(help="auto, face, cat, dog, saliency or center.")] = "auto",
    zoom: Annotated[str, typer.Option(help="picture (largest crop) or head (closer).")] = "picture",
    shape: Annotated[str, typer.Option(help="square, or buckets (near each photo's own shape).")] = "square",
    keep: Keep = None,
    strict: Strict = False,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Photos to crops around the subject, with a contact sheet that shows every crop box.

    Example: `limner prepare photos --out crops --size 512`
    """
    from limner.stages.prepare import prepare as prepare_photos

    settings = _settings("Prepare", size_px=size, shape=shape, focus=focus, zoom=zoom, keep=keep or [])
    photo_set = prepare_photos(photos, out, settings, strict=strict, progress=_progress(quiet))
    if json_output:
        print(json.dumps(photo_set.manifest.to_json(), indent=2))
        return
    print(f"{len(photo_set.files)} crops in {out}, {len(photo_set.refused)} photos left out; see {out / 'contact.jpg'}")


@app.command()
def train(
    study: StudyFile,
    out: Out = None,
    device: Device = "auto",
    memory: Memory = "",
    keep: Keep = None,
    deterministic: Deterministic = False,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Train every variant of a study; what comes before and is not current is made first.

    Example: `limner train study.toml --out runs/mine`
    """
    _run_until("train", study, out, device, False, deterministic, json_output, memory, keep, quiet)


@app.command()
def render(
    target: Annotated[
        Path, typer.Argument(help="A study file, a trained adapter's folder, or a LoRA's file.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option(help="Prompt for a quick look; {subject} is filled in.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the picture.")] = 0,
    scale: Annotated[float, typer.Option(help="Strength of a LoRA.")] = 1.0,
    base: Annotated[str, typer.Option(help="Base of the adapter, if its run's folder does not say.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder of a study; file of a quick look.")] = None,
    device: Device = "auto",
    memory: Memory = "",
    keep: Keep = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Render a study's grid, or one picture from an adapter.

    Example: `limner render runs/demo/adapters/lora-16 --prompt "a photo of {subject}" --seed 3 --scale 0.8`
    """
    if target.suffix == ".toml":
        _run_until("render", target, out, device, False, False, json_output, memory, keep, quiet)
        return
    from limner.quick_look import quick_look

    path = quick_look(target, prompt, seed, strength=scale, base=base, out=out, device=device_named(device))
    print_path("picture", path, json_output)


@app.command()
def control(
    study: StudyFile,
    out: Out = None,
    device: Device = "auto",
    keep: Keep = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Render a study's references through ControlNet-canny with every variant.

    Example: `limner control study.toml --out runs/mine`
    """
    _run_until("control", study, out, device, False, False, json_output, keep=keep, quiet=quiet)


@app.command()
def measure(
    study: StudyFile,
    out: Out = None,
    device: Device = "auto",
    keep: Keep = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Score a study's pictures: likeness, prompt fidelity, copying, edge agreement.

    Example: `limner measure study.toml --out runs/mine --json`
    """
    _run_until("measure", study, out, device, False, False, json_output, keep=keep, quiet=quiet)


@app.command()
def report(
    study: StudyFile,
    out: Out = None,
    device: Device = "auto",
    keep: Keep = None,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Write a study's comparison up as one web page and as Markdown.

    Example: `limner report study.toml --out runs/mine`
    """
    _run_until("report", study, out, device, False, False, json_output, keep=keep, quiet=quiet)


for other_command in (*models.COMMANDS, *running.COMMANDS):
    app.command()(other_command)
app.add_typer(lora.app)


def main() -> None:
    """Run the command line: one line an error, exit code 2 for wrong input, 1 for failure, 130 and 143 for signals."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with sigterm_as_ctrl_c() as came:
        code = _called()
    if came or code == SIGNALLED + signal.SIGINT:  # some versions of typer catch Ctrl-C and return its code
        ended_by = signal.SIGTERM if came else signal.SIGINT
        code = SIGNALLED + ended_by
        print(f"limner: {ENDED[ended_by]}; run the same command again to continue where it stopped", file=sys.stderr)
    sys.exit(code or 0)


def _called() -> Any:
    try:
        return app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return SIGNALLED + signal.SIGINT
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        return _tell(error)


def _tell(error: Exception) -> int:
    """Print one line for the user; returns the exit code."""
    if isinstance(error, LimnerError):
        print(f"limner: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    tell = getattr(error, "format_message", None)  # the parser's own: a missing argument, an unknown option
    if tell is not None:
        if message := tell().rstrip("."):  # none when limner was called without a command: it has printed its help
            print(f"limner: {printable(message)}; see limner --help", file=sys.stderr)
        return InputError.exit_code
    print(
        f"limner: {type(error).__name__}: {printable(str(error))} (limner --debug … shows the traceback)",
        file=sys.stderr,
    )
    return LimnerError.exit_code


def _run_until(
    stage: Any,
    study: Path,
    out: Path | None,
    device: str,
    strict: bool,
    deterministic: bool,
    as_json: bool,
    memory: str = "",
    keep: list[str] | None = None,
    quiet: bool = False,
) -> None:
    from limner.base.devices import use_deterministic
    from limner.study import run_study

    use_deterministic(deterministic)
    path = run_study(
        study,
        out,
        until=stage,
        device=device_named(device),
        memory=memory,
        keep=keep or (),
        strict=strict,
        progress=_progress(quiet),
    )
    print_path("report" if stage == "report" else "run", path, as_json)


def _checked(device: str) -> str:
    device_named(device)
    return device


def _progress(quiet: bool = False) -> Any:
    from limner.running.display import terminal_progress

    return terminal_progress(quiet=quiet)


def _settings(section: str, **values: Any) -> Any:
    from pydantic import ValidationError

    from limner import config

    try:
        return getattr(config, section)(**values)
    except ValidationError as error:
        listed = "; ".join(f"--{entry['loc'][0]}: {entry['msg']} (got {entry['input']!r})" for entry in error.errors())
        raise InputError(listed) from None


if __name__ == "__main__":
    main()
