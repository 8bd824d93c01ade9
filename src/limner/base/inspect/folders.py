"""What a folder is: a diffusers pipeline, one of its parts, an adapter, or a folder around one file of weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from limner.base.inspect.families import unet_family
from limner.base.inspect.report import UNKNOWN, FileReport
from limner.base.single_file.names import WEIGHT_PARTS
from limner.errors import WeightsError

LORA_FILE = "pytorch_lora_weights.safetensors"
CLASSES = {
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl-refiner",
}
OTHER_PARTS = ("tokenizer", "scheduler")
LARGEST_CONFIG_BYTES = 2**20
InspectFile = Callable[[Path], FileReport]


def inspect_folder(folder: Path, inspect_file: InspectFile) -> FileReport:
    """What a folder holds; problems name what is missing or damaged."""
    index, unet = _config(folder / "model_index.json"), _config(folder / "unet" / "config.json")
    if unet or index:
        return _pipeline(folder, index, unet, inspect_file)
    config = _config(folder / "config.json")
    files = weight_files(folder)
    lora = folder / LORA_FILE
    if lora.is_file():
        return _report_on(lora, inspect_file)
    if config.get("_class_name") == "AutoencoderKL" and files:
        return replace(_report_on_all(folder, files, inspect_file), family="vae", layout="diffusers")
    if (folder / "unet.safetensors").is_file():
        report = _report_on_all(folder, files, inspect_file)
        return replace(
            report, problems=[*report.problems, "a trained result without its base; limner export combines them"]
        )
    if not files:
        return FileReport(str(folder), UNKNOWN, problems=[f"{folder} holds no weights (*.safetensors)"])
    return _report_on_all(folder, files, inspect_file)


def _pipeline(folder: Path, index: dict[str, Any], unet: dict[str, Any], inspect_file: InspectFile) -> FileReport:
    family, notes = _family(index, unet)
    reports = {part: _report_on_all(folder / part, weight_files(folder / part), inspect_file) for part in WEIGHT_PARTS}
    if family in ("sd3", "flux"):
        reports = {
            "transformer": _report_on_all(folder / "transformer", weight_files(folder / "transformer"), inspect_file)
        }
    problems = [
        f"{part}: {problem}"
        for part, report in reports.items()
        for problem in report.problems
        if "truncated" in problem or not report.parameter_count
    ]
    problems += [f"{part} is missing" for part in OTHER_PARTS if not (folder / part).is_dir()]
    scheduler = _config(folder / "scheduler" / "scheduler_config.json")
    prediction = scheduler.get("prediction_type", "epsilon" if scheduler and family.startswith("sd") else None)
    precisions = _summed(reports.values())
    return FileReport(
        str(folder),
        family,
        "diffusers folder",
        prediction if isinstance(prediction, str) else None,
        "scheduler/scheduler_config.json" if scheduler else "not stated: there is no scheduler",
        next(iter(precisions), None),
        precisions,
        sum(report.parameter_count for report in reports.values()),
        [part for part, report in reports.items() if report.parameter_count],
        problems=problems,
        notes=notes,
    )


def _family(index: dict[str, Any], unet: dict[str, Any]) -> tuple[str, list[str]]:
    named = CLASSES.get(str(index.get("_class_name")))
    if named:
        return named, []
    if not unet:
        return UNKNOWN, [f"a pipeline of the class {str(index.get('_class_name'))[:60]}"]
    return unet_family(_number(unet.get("cross_attention_dim")), _number(unet.get("in_channels", 4)))


def _number(value: Any) -> int | None:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else None


def _report_on_all(folder: Path, files: list[Path], inspect_file: InspectFile) -> FileReport:
    """One report on all weight files of a folder: the first identified one, with the numbers and problems of all."""
    if not files:
        return FileReport(str(folder), UNKNOWN, problems=[f"there is no file of weights in {folder}"])
    reports = [_report_on(file, inspect_file) for file in files]
    first = next((report for report in reports if report.is_identified), reports[0])
    damaged = [problem for report in reports for problem in report.problems if report is not first]
    return replace(
        first,
        path=str(folder),
        parameter_count=sum(report.parameter_count for report in reports),
        precisions=_summed(reports),
        problems=[*first.problems, *(problem for problem in damaged if "truncated" in problem)],
    )


def _summed(reports: Iterable[FileReport]) -> dict[str, int]:
    """Numbers of each precision over several reports, the most first."""
    counts: dict[str, int] = {}
    for report in reports:
        for name, count in report.precisions.items():
            counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _report_on(file: Path, inspect_file: InspectFile) -> FileReport:
    try:
        return inspect_file(file)
    except WeightsError as error:
        return FileReport(str(file), UNKNOWN, problems=[str(error)])


def weight_files(folder: Path) -> list[Path]:
    """A part's weight files, without a hub folder's second copy in fp16; pickles only if there is nothing else."""
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    main_files = [file for file in files if ".fp16." not in file.name and ".non_ema." not in file.name]
    return main_files or files or sorted(folder.glob("*.bin"))


def _config(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_CONFIG_BYTES:
            return {}
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
