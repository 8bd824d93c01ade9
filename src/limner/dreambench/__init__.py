"""The DreamBench protocol (Ruiz et al. 2023, section 4) over a folder of subjects, beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.artifacts import read_record, write_whole
from limner.base import BaseLocation, find_base
from limner.config import merged, read_toml
from limner.embeddings import find_embedder
from limner.errors import InputError
from limner.measuring.prompt_fidelity import names_word
from limner.metrics import LIKENESS, PROMPT_FIDELITY
from limner.progress import SILENT, Progress
from limner.records import PooledRecord
from limner.reporting.dreambench import CLIP_I, CLIP_T, DINO, dreambench_markdown
from limner.subjects import POOLED, SubjectFolder, find_subjects, run_tables, subject_tables

HERE = Path(__file__).parent
PAGE = "dreambench.md"
DINO_MODEL, CLIP_MODEL = "facebook/dino-vits16", "openai/clip-vit-base-patch32"
STAND_INS = {DINO_MODEL: "efficientnet-lite0", CLIP_MODEL: "base"}
LIVE = ("cat", "dog", "person", "man", "woman", "boy", "girl", "child", "baby", "face")
"""Words of class nouns that make a subject live; in DreamBench these are cats and dogs."""


@dataclass(frozen=True)
class ProtocolModels:
    """What measures in the place of DINO, CLIP-I and CLIP-T: those themselves, or what stands in for them."""

    dino: str
    clip_image: str
    clip_text: str

    @property
    def metrics(self) -> dict[str, str]:
        """The metric of each of the protocol's three columns."""
        return {
            DINO: LIKENESS.of(self.dino),
            CLIP_I: LIKENESS.of(self.clip_image),
            CLIP_T: PROMPT_FIDELITY.of(self.clip_text),
        }


def run_dreambench(
    folder: Path,
    out: Path,
    base: str = "miniature",
    study: Path | None = None,
    *,
    device: str = "auto",
    processes: int = 1,
    seconds: float | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Every sub-folder of photos by the protocol; returns the page with the figures beside the published ones.

    Class nouns come from `prompts_and_classes.txt` or `subjects.csv` in `folder`. The tables of `study` are laid over
    the protocol's. Raises InputError as `run_subjects` does.
    """
    protocol = _anchored(read_toml(HERE / "study.toml"), base, read_toml(study) if study else {})
    subjects = find_subjects(folder)
    models = find_models(find_base(str(protocol["base"]["model"])))
    for name, stands_in in zip((DINO_MODEL, CLIP_MODEL), (models.dino, models.clip_image), strict=True):
        if stands_in != name:
            progress.notice(
                f"{name} is not available; {stands_in} is used instead, and no figure is given under the name {name}"
            )
    where = study.parent if study else Path()
    tables = {each.name: tables_of(each, protocol, models, where) for each in subjects}
    title = f"DreamBench on {Path(protocol['base']['model']).name}"
    run_tables(subjects, tables, out, title, device, processes, seconds, progress)
    record = read_record(out / POOLED, PooledRecord)
    write_whole(out / PAGE, dreambench_markdown(record, models.metrics, stand_ins(models)).encode())
    return out / PAGE


def find_models(base: BaseLocation) -> ProtocolModels:
    """The protocol's models where they are, else their stand-ins."""
    dino, clip = (name if _is_available(name, base) else STAND_INS[name] for name in (DINO_MODEL, CLIP_MODEL))
    return ProtocolModels(dino, clip, clip)


def stand_ins(models: ProtocolModels) -> dict[str, str]:
    """By column, the name of what stands in for the protocol's own model; empty where all are there."""
    asked = {DINO: (models.dino, DINO_MODEL), CLIP_I: (models.clip_image, CLIP_MODEL)}
    asked[CLIP_T] = (models.clip_text, CLIP_MODEL)
    return {column: used for column, (used, wanted) in asked.items() if used != wanted}


def tables_of(
    subject: SubjectFolder, protocol: Mapping[str, Any], models: ProtocolModels, folder: Path
) -> dict[str, Any]:
    """One subject's study: its 25 prompts, four pictures each, compared as whole pictures."""
    prompts = read_prompts("live" if is_live(subject.class_noun) else "object")
    rows = [{"name": prompt_name(prompt), "prompt": prompt} for prompt in prompts]
    measure = {"likeness": list(dict.fromkeys([models.dino, models.clip_image])), "prompt_fidelity": models.clip_text}
    study_tables = merged(protocol, {"render": {"prompts": rows}, "measure": measure})
    return subject_tables(study_tables, folder, subject)


def read_prompts(kind: str) -> list[str]:
    """The published prompts for "live" subjects or an "object"."""
    return (HERE / f"{kind}.txt").read_text(encoding="utf-8").splitlines()


def is_live(class_noun: str) -> bool:
    """Whether a subject is asked for by the prompts for live ones."""
    return any(names_word(class_noun, word) for word in LIVE)


def prompt_name(prompt: str) -> str:
    """A short name: the prompt without its article and subject."""
    return " ".join(prompt.replace("{subject}", " ").split()).removeprefix("a ")


def _anchored(protocol: dict[str, Any], base: str, laid: Mapping[str, Any]) -> dict[str, Any]:
    """The user's tables over the protocol's. Raises InputError for tables that would make it another protocol."""
    for table, key in (("render", "prompts"), ("measure", "likeness"), ("measure", "prompt_fidelity")):
        if isinstance(laid.get(table), Mapping) and key in laid[table]:
            raise InputError(f"{table}.{key} belongs to the DreamBench protocol; leave it out of the study")
    whole = merged(protocol, laid)
    return whole if "model" in whole.get("base", {}) else merged(whole, {"base": {"model": base}})


def _is_available(name: str, base: BaseLocation) -> bool:
    try:
        find_embedder(name, base)
        return True
    except InputError:
        return False


__all__ = [
    "PAGE",
    "ProtocolModels",
    "find_models",
    "is_live",
    "prompt_name",
    "read_prompts",
    "run_dreambench",
    "stand_ins",
    "tables_of",
]
