"""A study as Python gives it: a file, or a dict of its tables or a `Study`, which become the run's study.toml."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from limner.artifacts import require_folder, write_changed
from limner.config import Study
from limner.errors import InputError, StudyError
from limner.opening import LOCK

STUDY_FILE = "study.toml"
StudyLike = str | Path | Mapping[str, Any] | Study

FILES = {"subject.photos", "class_images.folder", "adapters.file", "control.references.image", "measure.others"}
"""Settings that name a file or a folder: those of a dict or a `Study` are relative to the current folder."""
FILES_OR_NAMES = {
    "base.model",
    "base.vae",
    "control.model",
    "measure.likeness",
    "measure.prompt_fidelity",
    "variants.start_from",
}
"""Settings that name a file, a folder or something else: a file where there is one."""


@contextlib.contextmanager
def study_file(study: StudyLike, out: Path | None) -> Iterator[Path]:
    """The study's file: its own, or `out/study.toml` written from its tables, with which `limner run` goes on too.

    Should the block refuse the study as wrong, the file that was there before is put back. Raises InputError without
    `out` for a study that is no file.
    """
    if isinstance(study, str | Path):
        yield Path(study)
        return
    out = _named(out)
    file, text = out / STUDY_FILE, _text(study)
    require_folder(out)
    is_new, before, lock = not out.exists(), _content(file), _content(out / LOCK)
    write_changed(file, text.encode())
    try:
        yield file
    except InputError:
        if _content(out / LOCK) == lock:  # else the study was taken, and something failed later
            _put_back(file, before)
            if is_new:
                with contextlib.suppress(OSError):  # something else was put there
                    out.rmdir()
        raise


@contextlib.contextmanager
def study_file_to_read(study: StudyLike, out: Path | None) -> Iterator[Path]:
    """The study's file, or a temporary one with its tables: `out` stays as it is. Raises InputError as `study_file`."""
    if isinstance(study, str | Path):
        yield Path(study)
        return
    _named(out)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / STUDY_FILE
        file.write_text(_text(study), encoding="utf-8")
        yield file


def _named(out: Path | None) -> Path:
    if out is None:
        raise InputError("a study that is not a file has no name; give its run folder with out=…")
    return out


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _put_back(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink(missing_ok=True)
    else:
        write_changed(file, content)


def _text(study: Mapping[str, Any] | Study) -> str:
    tables = study.model_dump(mode="json", exclude_unset=True) if isinstance(study, Study) else study
    try:
        return tomli_w.dumps(_plain(tables, Path.cwd()))
    except TypeError as error:
        raise StudyError("study", [f"a value has a type that no setting can have: {error}"]) from None


def _plain(value: Any, folder: Path, setting: str = "") -> Any:
    """Tables, lists, text and numbers, without what is None; files by their whole path."""
    if isinstance(value, Mapping):
        inside = {name: _plain(below, folder, f"{setting}.{name}".lstrip(".")) for name, below in value.items()}
        return {name: below for name, below in inside.items() if below is not None}
    if isinstance(value, list | tuple):
        return [_plain(below, folder, setting) for below in value]
    if isinstance(value, Path) or (isinstance(value, str) and setting in FILES | FILES_OR_NAMES):
        path = folder / Path(value).expanduser()
        return str(path) if setting in FILES or (value and path.exists()) else str(value)
    return value
