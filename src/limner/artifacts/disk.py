"""Artefacts on disk: written whole or not at all, keyed by what they were made from.

A stage's key is the SHA-256 of canonical JSON: stage, stage version, the resolved settings it reads and
the content hashes of its inputs. Time, machine and library versions are recorded beside it, never hashed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from limner.errors import DiskError, LimnerError, NotFiniteError
from limner.records import MachineRecord

MANIFEST = "manifest.json"
TEMPORARY_PREFIX = ".unfinished-"
HASHED_AT_ONCE = 4  # files: hashing leaves Python's lock
RECORDED_PACKAGES = (
    "limner",
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "pillow",
    "opencv-python-headless",
)


def canonical_json(value: Any) -> bytes:
    """Encode `value` with sorted keys and no spaces, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()


def stage_key(stage: str, version: int, settings: Any, inputs: Any) -> str:
    """Return the SHA-256 (hex) that names one result of one stage."""
    return hashlib.sha256(canonical_json([stage, version, settings, inputs])).hexdigest()


@dataclass(frozen=True)
class Specification:
    """What one result of a stage follows from: the settings that the stage reads and the content of its inputs."""

    stage: str
    version: int
    settings: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        """SHA-256 (hex) that names the result; what is not named here does not change it."""
        return stage_key(self.stage, self.version, self.settings, self.inputs)


def hash_bytes(content: bytes) -> str:
    """SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each file's content, in hex, several read at a time."""
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
        return list(pool.map(hash_file, paths))


def machine_record(
    *,
    seconds: float | None = None,
    rendered: int | None = None,
    device: str | None = None,
    arithmetic: str | None = None,
    trained_with: list[str] | None = None,
) -> MachineRecord:
    """What is recorded of the machine and its libraries (never part of a key), and more of the making."""
    more = {
        "seconds": seconds,
        "rendered": rendered,
        "device": device,
        "arithmetic": arithmetic,
        "trained_with": trained_with,
    }
    return MachineRecord(
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        platform=platform.platform(),
        python=platform.python_version(),
        processors=os.cpu_count(),
        versions=installed_versions(RECORDED_PACKAGES),
        **{name: value for name, value in more.items() if value is not None},
    )


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@contextlib.contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"no space left on the disk while writing {path}; free some, then run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(
                f"{path} cannot be written ({error.strerror}); choose another --out or correct its permissions"
            ) from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is there whole or not at all: temporary sibling, fsync, rename, fsync of the folder."""
    with clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_folder(path.parent)


def write_changed(path: Path, content: bytes) -> None:
    """Write a file whole, unless it holds that content already."""
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON whole. Raises NotFiniteError, which names the field, for a number that JSON cannot hold."""
    write_whole(path, (finite_json(path, value, indent=2) + "\n").encode())


def finite_json(path: Path, value: Any, indent: int | None = None) -> str:
    """The JSON of a value that goes into `path`. Raises NotFiniteError, which names the field, as `write_json`."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise NotFiniteError(f"{path}: {not_finite(value)}; nothing was written") from None


def not_finite(value: Any, field: str = "") -> str:
    """The first number in `value` that is NaN or infinite, with the path of its field; "" where there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{field or 'the value'} is {value}"
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return next(filter(None, (not_finite(item, f"{field}.{name}" if field else str(name)) for name, item in items)), "")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `folder` that takes its place when the block ends well, and vanishes when not.

    The old folder is set aside first and put back should the rename fail, so that one of the two is always whole.
    Folders above it that had to be made vanish with it.
    """
    made = [parent for parent in folder.parents if not parent.exists()]
    with clear_disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            _fsync_tree(temporary)
            _take_place(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                for parent in made:
                    parent.rmdir()
            raise


def file_hashes(folder: Path) -> dict[str, str]:
    """Map every file below `folder` (but its own manifest) to its SHA-256, in the order of names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return dict(zip([path.relative_to(folder).as_posix() for path in files], hash_files(files), strict=True))


def sweep_unfinished(folder: Path) -> None:
    """Remove what an interrupted write left behind."""
    if folder.is_dir():
        for path in folder.rglob(TEMPORARY_PREFIX + "*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise DiskError when the disk under `folder` has less than `needed_bytes` free."""
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise DiskError(
            f"{folder} needs about {needed_bytes / 2**20:,.0f} MiB and the disk has {free / 2**20:,.0f} MiB free; "
            "free some space or choose another --out"
        )


def require_absent(path: Path) -> None:
    """Raise DiskError when something lies where a new file or folder should go: nothing of a user's is replaced."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise DiskError(f"{path} already exists; give another name, or remove it first")
    require_folder(path.parent)


def require_folder(folder: Path) -> None:
    """Raise DiskError unless `folder` can be made: a file may not lie in its way."""
    for path in [folder, *folder.parents]:
        if path.exists():
            if not path.is_dir():
                raise DiskError(f"{path} is a file where a folder is needed; choose another --out")
            if not os.access(path, os.W_OK):
                raise DiskError(f"{path} cannot be written; choose another --out or correct its permissions")
            return


def _take_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.replace(folder)
    elif folder.is_dir():
        aside = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
        folder.replace(aside / "old")
        try:
            temporary.replace(folder)
        except OSError:
            (aside / "old").replace(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        raise LimnerError(f"{folder} is a file where a folder is needed; move it away")
    _fsync_folder(folder.parent)


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _fsync_folder(folder)


def _fsync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot open a folder for syncing
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
