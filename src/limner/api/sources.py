"""A study as Python gives it: a file, or a dict of its tables or a `Study`, which become the run's study.toml."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from limner.artifacts import require_folder, write_changed
from limner.config import Study
from limner.errors import InputError, StudyError
from limner.opening import LOCK

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
    if out is None:
        raise InputError("a study that is no file has no name; say where its run goes with out=…")
    tables = study.model_dump(mode="json", exclude_unset=True) if isinstance(study, Study) else study
    file, text = out / "study.toml", _text(tables)
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


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _put_back(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink(missing_ok=True)
    else:
        write_changed(file, content)


def _text(tables: Mapping[str, Any]) -> str:
    try:
        return tomli_w.dumps(_plain(tables, Path.cwd()))
    except TypeError as error:
        raise StudyError("study", [f"a setting is of a type that no setting has: {error}"]) from None


def _plain(value: Any, folder: Path, place: str = "") -> Any:
    """Tables, lists, text and numbers, without what is None; files by their whole path."""
    if isinstance(value, Mapping):
        inside = {name: _plain(below, folder, f"{place}.{name}".lstrip(".")) for name, below in value.items()}
        return {name: below for name, below in inside.items() if below is not None}
    if isinstance(value, list | tuple):
        return [_plain(below, folder, place) for below in value]
    if isinstance(value, Path) or (isinstance(value, str) and place in FILES | FILES_OR_NAMES):
        path = folder / Path(value).expanduser()
        return str(path) if place in FILES or (value and path.exists()) else str(value)
    return value
