"""Artefacts on disk: written whole or not at all, keyed by what they were made from.

A stage's key is the SHA-256 of canonical JSON: stage, stage version, the resolved settings it reads and
the content hashes of its inputs. Time, machine and library versions are recorded beside it, never hashed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from limner.errors import DiskError, LimnerError

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


def machine_record() -> dict[str, Any]:
    """What is recorded of the machine and its libraries (never part of a key)."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "versions": installed_versions(RECORDED_PACKAGES),
    }


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, which stage made it from what, and how to tell whether it is current.

    `files` maps each file's path relative to the folder to its SHA-256; `content` is the stage's own record.
    """

    stage: str
    version: int
    key: str
    settings: dict[str, Any]
    inputs: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """Hash of the files the folder holds: what a later stage names as its input."""
        return hash_bytes(canonical_json(self.files))

    def to_json(self) -> dict[str, Any]:
        """The manifest as it lies on disk: the stage's own record stands at the top level."""
        record = asdict(self)
        return {**record.pop("content"), **record}


def read_manifest(folder: Path) -> Manifest | None:
    """Read `folder/manifest.json`; None when there is none or it is not one of ours."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = {name: record.pop(name) for name in Manifest.__dataclass_fields__ if name in record}
        return Manifest(**known, content=record)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def is_current(folder: Path, key: str) -> bool:
    """Whether `folder` holds the whole result that `key` names, every file with the content it was made with."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.key != key:
        return False
    files = [folder / name for name in manifest.files]
    return all(file.is_file() for file in files) and hash_files(files) == list(manifest.files.values())


@contextlib.contextmanager
def told_plainly(path: Path) -> Iterator[None]:
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
                f"{path} cannot be written ({error.strerror}); choose another --out or mend its permissions"
            ) from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is there whole or not at all: temporary sibling, fsync, rename, fsync of the folder."""
    with told_plainly(path):
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
    """Write readable JSON whole."""
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode())


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `folder` that takes its place when the block ends well, and vanishes when not.

    The old folder is set aside first and put back should the rename fail, so that one of the two is always whole.
    Folders above it that had to be made vanish with it.
    """
    made = [parent for parent in folder.parents if not parent.exists()]
    with told_plainly(folder):
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, last, beside the files that it names."""
    write_json(folder / MANIFEST, manifest.to_json())


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
        raise DiskError(f"{path} is there already; give another name, or remove it first")
    require_folder(path.parent)


def require_folder(folder: Path) -> None:
    """Raise DiskError unless `folder` can be made: a file may not lie in its way."""
    for path in [folder, *folder.parents]:
        if path.exists():
            if not path.is_dir():
                raise DiskError(f"{path} is a file, and a folder should go there; choose another --out")
            if not os.access(path, os.W_OK):
                raise DiskError(f"{path} cannot be written; choose another --out or mend its permissions")
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
        raise LimnerError(f"{folder} is a file, and a folder should go there; move it away")
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
