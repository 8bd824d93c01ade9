"""Inspect a file or a folder: headers and configurations only, well under a second whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limner.base.inspect.families import Identity, identify, numbers_without_averages
from limner.base.inspect.folders import inspect_folder
from limner.base.inspect.metadata import prediction_type_of, training_of, trigger_words
from limner.base.inspect.pickles import read_pickled
from limner.base.inspect.report import TITLES, UNKNOWN, FileReport
from limner.base.weights.header import ITEM_BYTES, Header, TensorEntry, read_header
from limner.base.weights.kinds import kind_of
from limner.errors import BaseError, WeightsError

PRECISIONS = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def inspect(path: Path) -> FileReport:
    """What a file or a folder is. Bad content raises no error: it is reported under `problems`, with family "unknown".

    Raises BaseError when there is nothing at `path`.
    """
    if path.is_dir():
        return inspect_folder(path, inspect_file)
    if not path.exists():
        raise BaseError(f"there is no file or folder {path}; check the spelling")
    try:
        return inspect_file(path)
    except WeightsError as error:
        return FileReport(str(path), UNKNOWN, problems=[str(error)])


def inspect_file(path: Path) -> FileReport:
    """What a file is. Raises WeightsError if it cannot be read."""
    if path.is_file() and kind_of(path).kind in ("zip", "pickle"):
        return _pickled(path)
    header = read_header(path)
    problems = []
    if header.missing_bytes:
        problems.append(f"truncated: {header.missing_bytes:,} bytes of its tensors are missing; download it again")
    return report_of(str(path), header, identify(header.shapes), problems)


def report_of(path: str, header: Header, identity: Identity, problems: list[str]) -> FileReport:
    """The report on a header whose tensors were identified."""
    prediction, source = prediction_type_of(header.metadata, header.tensors, identity.family)
    precisions = _precisions(header.tensors)
    return FileReport(
        path,
        identity.family,
        identity.layout,
        prediction,
        source,
        next(iter(precisions), None),
        precisions,
        numbers_without_averages({name: entry.count for name, entry in header.tensors.items()}),
        identity.parts,
        trigger_words(header.metadata),
        training_of(header.metadata),
        [*problems, *identity.problems],
        identity.notes,
    )


def _precisions(tensors: Mapping[str, TensorEntry]) -> dict[str, int]:
    """How many numbers of each precision, the most first."""
    counts: dict[str, int] = {}
    for entry in tensors.values():
        name = PRECISIONS.get(entry.dtype, entry.dtype.lower())
        counts[name] = counts.get(name, 0) + entry.count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _pickled(path: Path) -> FileReport:
    """A torch checkpoint, analysed without running it."""
    pickle = read_pickled(path)
    entries = {
        name: TensorEntry(pickle.dtypes[name] if pickle.dtypes[name] in ITEM_BYTES else "F32", shape, 0, 0)
        for name, shape in pickle.shapes.items()
    }
    problems = [
        f"{path.name} is a pickle, which can run code when it is read; limner reads it with --allow-pickle only"
    ]
    if pickle.unexpected_calls:
        problems.append(
            f"it would call {', '.join(pickle.unexpected_calls[:3])}, which no weights need: do not load it anywhere"
        )
    return report_of(str(path), Header(path, entries, {}), identify(pickle.shapes), problems)


def sentence(report: FileReport) -> str:
    """What something is, in one sentence for the user."""
    if report.is_identified:
        return f"{report.path} is {TITLES[report.family]}"
    return f"{report.path} is {TITLES[UNKNOWN]}" + (f": {report.problems[0]}" if report.problems else "")


def require_sd15(path: Path) -> FileReport:
    """The report on a Stable Diffusion 1.5 base. Raises BaseError, saying what it is, for everything else."""
    report = inspect(path)
    if not report.is_identified and report.problems and str(path) in report.problems[0]:
        raise BaseError(report.problems[0])
    if report.family != "sd15":
        raise BaseError(f"{sentence(report)}; limner trains and renders Stable Diffusion 1.5 only")
    if path.is_file() and kind_of(path).kind != "safetensors":
        raise BaseError(f"{path}: {report.problems[0]}")
    damage = [problem for problem in report.problems if "truncated" in problem]
    if damage:
        raise BaseError(f"{path} cannot be loaded as Stable Diffusion 1.5: {damage[0]}")
    return report
