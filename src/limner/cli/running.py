"""Commands on runs: what they have to do and what they need, and what one that is under way is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limner.cli.options import Device, Json, device_named
from limner.errors import InputError

if TYPE_CHECKING:
    from limner.events import CommandName
    from limner.running.plan import Plan, Task

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run that is under way.", show_default=False)]


def plan(
    study: Annotated[Path, typer.Argument(help="Study file (.toml).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME of the study file if left out.")
    ] = None,
    device: Device = "auto",
    memory: Annotated[str, typer.Option(help="GPU memory to use: auto, or GiB such as 6, 8, 12, 16, 24.")] = "",
    json_output: Json = False,
) -> None:
    """What a run would do: its tasks, which are current, what the others wait for, how long they take and their GiB.

    Example: `limner plan configs/coursework-a.toml --out runs/a`
    """
    from limner.study import plan_study

    planned = plan_study(study, out, device=device_named(device), memory=memory)
    print(planned.model_dump_json(indent=2) if json_output else "\n".join(lines_of(planned)))


def stop(run: RunFolder) -> None:
    """Stop a run: it finishes its step or picture, saves its state and ends with exit code 130, as Ctrl-C has it.

    Example: `limner stop runs/a`
    """
    _give(run, "stop")


def save(run: RunFolder) -> None:
    """Have a run that trains save its state after the step that is under way, and go on.

    Example: `limner save runs/a`
    """
    _give(run, "save")


def validate(run: RunFolder) -> None:
    """Have a run that trains render its validation pictures now, and go on; what is delivered stays the same.

    Example: `limner validate runs/a`
    """
    _give(run, "validate")


def doctor(
    study: Annotated[Path | None, typer.Argument(help="Study file (.toml) to predict.", show_default=False)] = None,
    device: Device = "auto",
    memory: Annotated[str, typer.Option(help="GPU memory to use: auto, or GiB such as 6, 8, 12, 16, 24.")] = "",
    json_output: Json = False,
) -> None:
    """What this machine can do; with a study, the GPU memory that each of its stages will take, read from its files.

    Example: `limner doctor configs/coursework-a.toml --memory 8`
    """
    from limner.doctor import examine, predict_memory

    diagnosis = predict_memory(study, device_named(device), memory) if study else examine(device_named(device))
    print(json.dumps(diagnosis.record, indent=2) if json_output else "\n".join(diagnosis.lines))
    if diagnosis.faults:
        raise typer.Exit(InputError.exit_code)


def _give(run: Path, command: CommandName) -> None:
    from limner.running.commands import give

    print(f"{command}: asked of {give(run, command)}; the answer comes in {run}/events.jsonl")


def lines_of(plan: Plan) -> list[str]:
    """The plan for people, a task a line."""
    from limner.running.display import duration

    expected = plan.expected_seconds
    whole = "not known how long" if expected is None else f"about {duration(expected)}"
    done = len(plan.tasks) - len(plan.to_do)
    return [f"{plan.run} on {plan.device}: {len(plan.to_do)} tasks to do, {done} current; {whole}"] + [
        f"  {task.name:<28} {task.what:<28} {_state(task)}" for task in plan.tasks
    ]


def _state(task: Task) -> str:
    from limner.running.display import duration

    if task.current:
        return "current"
    known = task.expected_seconds is not None
    said = [f"{duration(task.expected_seconds)} by {task.seconds_from}" if known else "to do"]  # pyright: ignore
    said += [f"{task.gib:.1f} GiB"] if task.gib is not None else []
    said += [f"after {', '.join(task.after)}"] if task.after else []
    return "; ".join(said)


COMMANDS = (plan, stop, save, validate, doctor)
