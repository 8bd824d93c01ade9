"""Who works in a run's folder: RUN/lease.json names the host, its boot, the process and what it does.

A second process is refused by that name. A lease whose process is gone is taken over; whether it is gone can only be
seen on its own host, in its own namespace of process numbers (containers have theirs).
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from limner.errors import RunInUseError
from limner.progress import SILENT, Progress

LEASE = "lease.json"
SAME_START_SECONDS = 2.0  # the clock from which start times are counted may be set meanwhile
ATTEMPTS = 10


class Lease(BaseModel):
    """What lease.json says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    boot: str
    namespace: str
    process: int
    process_started: float
    """Seconds since 1970."""
    doing: str
    since: str

    def __str__(self) -> str:
        return f"{self.doing} (process {self.process} on {self.host}, since {self.since})"

    @property
    def is_of_this_host(self) -> bool:
        """Whether it can be seen from here if its process runs."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    @property
    def is_alive(self) -> bool:
        """Whether its process runs; of another host it is taken to."""
        if not self.is_of_this_host:
            return True
        return self.boot == _boot() and _started(self.process, self.process_started)

    @property
    def is_ours(self) -> bool:
        """Whether this process has it."""
        return self.is_of_this_host and self.process == os.getpid() and self.is_alive


def read_lease(run: Path) -> Lease | None:
    """Who has the run; None where nobody has or the file says nothing."""
    try:
        return Lease.model_validate_json((run / LEASE).read_bytes())
    except (OSError, ValidationError):
        return None


@contextlib.contextmanager
def hold(run: Path, doing: str, progress: Progress = SILENT) -> Iterator[None]:
    """Have the run's folder for the block, unless this process has it already.

    Raises RunInUseError when another process has it.
    """
    run.mkdir(parents=True, exist_ok=True)
    mine = _lease_of_this_process(doing)
    if not _acquire(run, mine, progress):
        yield  # an outer block of this process has it, and gives it back
        return
    try:
        yield
    finally:
        if read_lease(run) == mine:
            (run / LEASE).unlink(missing_ok=True)


def _acquire(run: Path, mine: Lease, progress: Progress) -> bool:
    for _ in range(ATTEMPTS):
        if _write_new(run, mine):
            return True
        other = read_lease(run)
        if other is None:
            if (run / LEASE).exists():
                raise RunInUseError(f"{run / LEASE} cannot be read; if no limner is running in {run}, remove it")
            continue  # it was given back meanwhile
        if other.is_ours:
            return False
        if other.is_alive:
            raise RunInUseError(_refusal(run, other))
        if _displace(run, other):
            progress.notice(f"{run}: taken over from {other.doing}: process {other.process} is gone")
    raise RunInUseError(f"{run}: other processes keep taking this folder; end them first")


def _refusal(run: Path, other: Lease) -> str:
    if other.is_of_this_host:
        return f"{run} is in use: {other}; wait for it, or stop it with: limner stop {run}"
    return f"{run} is in use on another host: {other}; if that process is gone, remove {run / LEASE}"


def _write_new(run: Path, mine: Lease) -> bool:
    """Put the lease there whole, unless there is one: a link to a whole file is made or fails at once."""
    handle, name = tempfile.mkstemp(prefix=".lease-", dir=run)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(mine.model_dump_json(indent=2) + "\n")
    try:
        os.link(name, run / LEASE)
        return True
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()


def _displace(run: Path, gone: Lease) -> bool:
    """Take a lease away whose process is gone; one that somebody else has placed meanwhile is put back."""
    aside = run / f".lease-gone-{os.getpid()}"
    try:
        (run / LEASE).rename(aside)
    except FileNotFoundError:
        return False
    try:
        if Lease.model_validate_json(aside.read_bytes()) == gone:
            return True
        with contextlib.suppress(FileExistsError):
            os.link(aside, run / LEASE)
        return False
    finally:
        aside.unlink()


def _lease_of_this_process(doing: str) -> Lease:
    return Lease(
        host=socket.gethostname(),
        boot=_boot(),
        namespace=_namespace(),
        process=os.getpid(),
        process_started=psutil.Process().create_time(),
        doing=doing,
        since=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _boot() -> str:
    """What names this boot of the host; where there is no such name, about when it was."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.is_file() else f"{psutil.boot_time() // 60:.0f}"


def _namespace() -> str:
    """Which process numbers are meant: every container has its own."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _started(process: int, when: float) -> bool:
    """Whether this very process runs: a number may come again."""
    try:
        found = psutil.Process(process)
        return abs(found.create_time() - when) < SAME_START_SECONDS and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
