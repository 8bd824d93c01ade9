"""The subjects of a study: one folder of photos each, its class noun, and the study file that is written for it."""

from __future__ import annotations

import csv
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from limner.artifacts import PhotoSet, hash_file, whole_folder, write_changed
from limner.config.study import merged
from limner.errors import InputError
from limner.measuring import FEWEST_OTHERS
from limner.opening import models_beside

CLASS_FILES = ("subjects.csv", "prompts_and_classes.txt")  # the second is how DreamBench publishes it
CLASS_COLUMNS = ["subject_name", "class"]
STUDY_FILE, OTHERS = "study.toml", "others"
MOST_OTHERS = 48  # as many as are looked at


@dataclass(frozen=True)
class SubjectFolder:
    """One subject: its name (that of its folder), its photos and what it is one of."""

    name: str
    photos: Path
    class_noun: str


def find_subjects(folder: Path, class_noun: str = "") -> list[SubjectFolder]:
    """Every sub-folder of `folder`, by name; nouns come from its `subjects.csv`, else it is `class_noun`.

    Raises InputError where there is no sub-folder, or a subject's noun is not known.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: this folder does not exist; name one that holds a folder of photos for each subject"
        )
    nouns = read_classes(folder)
    photos = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not photos:
        raise InputError(f"{folder} holds no folders; put the photos of each subject into a separate folder")
    subjects = [SubjectFolder(path.name, path, nouns.get(path.name, class_noun)) for path in photos]
    if unknown := [subject.name for subject in subjects if not subject.class_noun]:
        raise InputError(
            f"{folder}: no class noun for {', '.join(unknown)}; write {CLASS_FILES[0]} (subject_name,class)"
        )
    return subjects


def read_classes(folder: Path) -> dict[str, str]:
    """Class nouns by subject, from the rows below a line `subject_name,class`; empty where there is no such file.

    Raises InputError for a file without these rows, or with a row that is no pair.
    """
    file = next((folder / name for name in CLASS_FILES if (folder / name).is_file()), None)
    if file is None:
        return {}
    lines = csv.reader(file.read_text(encoding="utf-8-sig").splitlines())
    table = itertools.dropwhile(lambda row: [cell.strip() for cell in row] != CLASS_COLUMNS, lines)
    rows = list(itertools.takewhile(bool, itertools.islice(table, 1, None)))
    if faulty := next((row for row in rows if len(row) != 2 or not all(cell.strip() for cell in row)), None):
        raise InputError(f"{file}: {','.join(faulty)!r} is not a pair of subject_name and class; correct this row")
    if not rows:
        raise InputError(f"{file} has no rows below a line {','.join(CLASS_COLUMNS)!r}; add one for each subject")
    return {name.strip(): noun.strip() for name, noun in rows}


def subject_tables(template: Mapping[str, Any], folder: Path, subject: SubjectFolder) -> dict[str, Any]:
    """The template's tables for one subject; what they name relative to `folder` is named by its whole path."""
    subject_table = {"photos": str(subject.photos.resolve()), "class_noun": subject.class_noun}
    return merged(_anchored(template, folder.resolve()), {"subject": subject_table})


def write_study(tables: Mapping[str, Any], run: Path) -> Path:
    """The study file in a subject's run folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_changed(run / STUDY_FILE, tomli_w.dumps(tables).encode())
    return run / STUDY_FILE


def write_others(run: Path, others: Sequence[PhotoSet]) -> bool:
    """Crops of the other subjects into `run`/others, as many of each as there is room for; False under seven.

    By them it is measured whether an embedding knows this subject among real pictures of others of its class.
    """
    in_turn = itertools.zip_longest(*[photo_set.files for photo_set in others])
    files = [file for row in in_turn for file in row if file is not None][:MOST_OTHERS]
    if len(files) < FEWEST_OTHERS:
        return False
    wanted = {f"{number:02d}.png": file for number, file in enumerate(files)}
    present = {path.name: path for path in (run / OTHERS).glob("*.png")}
    if present.keys() != wanted.keys() or any(hash_file(present[name]) != hash_file(wanted[name]) for name in wanted):
        with whole_folder(run / OTHERS) as unfinished:
            for name, file in wanted.items():
                shutil.copyfile(file, unfinished / name)
    return True


def _anchored(template: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The template's tables with what lies beside it named by its whole path."""
    laid = models_beside(folder, dict(template))
    for table, key in (("class_images", "folder"), ("measure", "others")):
        named = template.get(table, {}).get(key) if isinstance(template.get(table), Mapping) else None
        if isinstance(named, str) and named:
            laid = merged(laid, {table: {key: str(folder / named)}})
    control = laid.get("control")
    if isinstance(control, Mapping) and isinstance(control.get("references"), list):
        references = [
            {**row, "image": str(folder / row["image"])} if isinstance(row, Mapping) and "image" in row else row
            for row in control["references"]
        ]
        laid = merged(laid, {"control": {"references": references}})
    return laid
