"""`limner` in forked children of a process that has imported everything: a run costs what its work costs."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.events import EventCounter, watch
from tests.chaos.faults import Fault

PATIENCE_SECONDS = 240
NOT_IMPORTED = ("triton", "__main__", "worker", "_amx", "_avx512")


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (None: it hung and was killed), what it said, and processes that it left behind."""

    code: int | None
    said: str
    orphans: tuple[int, ...]


def import_everything() -> None:
    """Import all of limner and what it loads later, so that no child has to. No thread may have been started."""
    import diffusers
    import torch
    import transformers

    import limner

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(limner.__path__, "limner."):
        if not any(part in module.name for part in NOT_IMPORTED):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for package, names in (
        (diffusers, ("AutoencoderKL", "UNet2DConditionModel", "ControlNetModel")),
        (transformers, ("CLIPTextModel", "CLIPModel", "CLIPTokenizer")),
    ):
        for name in names:
            getattr(package, name)


def run(arguments: list[str], out: Path, fault: Fault | None, said: Path, log: Path | None = None) -> Ended:
    """Run `limner ARGUMENTS` to its end in a child; `fault` strikes it, `log` lists its file events below `out`."""
    child = os.fork()
    if child == 0:
        _be_limner(arguments, out, fault, said, log)
    code = _waited_for(child)
    return Ended(code, said.read_text(errors="replace")[-2000:], _left_behind(child))


def _be_limner(arguments: list[str], out: Path, fault: Fault | None, said: Path, log: Path | None) -> None:
    code = 99
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if fault is not None or log is not None:
            watch(EventCounter(out.parent, _Listed(fault, log)))
        sys.argv = ["limner", *arguments]
        from limner.cli.main import main

        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Listed:
    """Writes every event into a list, and hands it on to the fault."""

    def __init__(self, fault: Fault | None, log: Path | None) -> None:
        self.fault = fault
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if log else None

    def __call__(self, number: int, event: object) -> None:
        if self.log is not None:
            os.write(self.log, f"{number}\t{event.what}\t{event.path}\n".encode())  # type: ignore[attr-defined]
        if self.fault is not None:
            self.fault(number, event)  # type: ignore[arg-type]


def _waited_for(child: int) -> int | None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _left_behind(session: int) -> tuple[int, ...]:
    """Living processes of a session whose leader has ended; those that are ending get a moment."""
    for _ in range(20):
        left = [pid for pid in _processes() if _session_of(pid) == session]
        if not left:
            return ()
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(left)


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _session_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else int(fields[3])
