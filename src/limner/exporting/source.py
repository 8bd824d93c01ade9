"""What is to be exported: a trained adapter's folder, or a LoRA of another program, and the base that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.adapters import (
    Adapter,
    LowRankUpdates,
    WholeWeights,
    full_weights_of,
    kinds_in_all,
    load_trained,
    low_rank_of,
)
from limner.adapters.exchange import load_foreign
from limner.adapters.exchange.merging import Changes
from limner.adapters.exchange.provenance import OTHER_LICENCE, SD15_LICENCE, Provenance
from limner.adapters.formats import LowRank
from limner.artifacts import MANIFEST, AdapterFolder, PhotoSet
from limner.base import BaseLocation, find_base
from limner.base.inspect.metadata import trigger_words
from limner.base.weights.header import read_header
from limner.config import BaseSettings, Study
from limner.errors import AdapterError, BaseError
from limner.opening import study_of_run
from limner.records import AdapterRecord

RECORDED = (  # settings of a training that a reader of the result wants to know
    "method", "rank", "alpha", "targets", "steps", "learning_rate", "text_encoder_learning_rate",
    "learning_rate_schedule", "warmup_steps", "batch_size", "gradient_accumulation_steps", "optimizer", "snr_gamma",
    "noise_offset", "prior_preservation", "prior_loss_weight", "text_encoder", "training_seed",
)  # fmt: skip
FRONT_MATTER_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
MOST_PICTURES, MOST_WORDS = 4, 3


@dataclass(frozen=True)
class Source:
    """A result: low-rank updates, files of full weights by module, changes to merge; and where it is from."""

    path: Path
    label: str
    low_rank: LowRank
    full: Mapping[str, Path] = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)
    study: Study | None = None
    folder: AdapterFolder | None = None
    base_name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)  # of another program's file

    @property
    def settings(self) -> BaseSettings:
        """How the study used its base: VAE, clip skip."""
        return self.study.base if self.study else BaseSettings()

    def base(self) -> BaseLocation:
        """The base it was trained on. Raises BaseError where that is not known."""
        if not self.base_name:
            raise BaseError(f"{self.path} does not say which base it belongs to; name it with --base")
        own = self.settings
        return find_base(self.base_name, own.revision if self.base_name == own.model else "")

    def adapter(self) -> Adapter:
        """It in memory. Raises AdapterError for what can only be merged, such as a DoRA."""
        return load_trained(self.folder) if self.folder else load_foreign(self.path).adapter(self.label)

    def provenance(self, base: BaseLocation | None) -> Provenance:
        """What its files will say of where it comes from."""
        manifest = self.folder.manifest if self.folder else None
        subject = self.study.subject if self.study else None
        known = self._known()
        return Provenance(
            self.label,
            plain_name(self.base_name),
            base.content_hash if base else "",
            base is not None and base.kind == "file",
            licence_of(base) if base else OTHER_LICENCE,
            known.get("instance_prompt", ""),
            subject.phrase if subject else ", ".join(trigger_words(self.metadata)[:MOST_WORDS]),
            subject.identifier if subject else "",
            self.study.prepare.size_px if self.study else 512,
            base.configuration.prediction_type if base else "epsilon",
            self.settings.clip_skip,
            self._photos(),
            manifest.made.time[:19] if manifest else "",
            {name: _name_or_value(known[name]) for name in RECORDED if known.get(name) is not None},
        )

    def pictures(self) -> dict[str, Path]:
        """One render of each of the study's first prompts, where its run has some."""
        if self.study is None or self.folder is None:
            return {}
        run, subject = self.folder.folder.resolve().parent.parent, self.study.subject
        found = {
            subject.fill(prompt.prompt): next(
                iter(sorted((run / "renders" / self.label / prompt.name).glob("*.png"))), None
            )
            for prompt in self.study.render.prompts[:MOST_PICTURES]
        }
        return {prompt: path for prompt, path in found.items() if path is not None}

    def _known(self) -> dict[str, Any]:
        """What the result's training is known by: its settings, and what its record says of the result."""
        if self.folder is None:
            return {}
        record = self.folder.record
        said = {"method": record.method, "steps": record.steps, "training_seed": record.training_seed}
        return self.folder.manifest.settings | said | record.method_record

    def _photos(self) -> int:
        photos = self.folder.folder.resolve().parent.parent / "photos" if self.folder else None
        return len(PhotoSet(photos).training_files) if photos and (photos / MANIFEST).is_file() else 0


def open_source(path: Path, base: str = "") -> Source:
    """Read what is to be exported. `base` comes before the base that its run's folder names.

    Raises AdapterError for what is neither a trained adapter's folder nor a LoRA of SD 1.5.
    """
    if (path / MANIFEST).is_file():
        folder, study = AdapterFolder(path), study_of_run(path)
        if not isinstance(folder.manifest.record, AdapterRecord):
            raise AdapterError(
                f"{path} is not an adapter: its manifest was written by another stage; give RUN/adapters/VARIANT"
            )
        if strange := kinds_in_all(folder) - {WholeWeights.kind, LowRankUpdates.kind}:
            raise AdapterError(f"{path} holds {', '.join(sorted(strange))}, for which other programs have no format")
        name = base or (study.base.model if study else "")
        return Source(path, folder.label, low_rank_of(folder), full_weights_of(folder), {}, study, folder, name)
    if not path.exists():
        raise AdapterError(f"there is no {path}; give RUN/adapters/VARIANT or a LoRA's file")
    foreign = load_foreign(path)
    return Source(
        path, foreign.path.stem, foreign.low_rank, {}, foreign.changes, base_name=base, metadata=foreign.metadata
    )


def plain_name(model: str) -> str:
    """A hub id as it is; of a path its last part alone, for where it lay is nobody's business."""
    is_path = model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model).exists()
    return Path(model).name if is_path else model


def licence_of(base: BaseLocation) -> str:
    """What the base says of its licence; else SD 1.5's own, which covers what was made from it."""
    if base.kind == "file":
        said = read_header(base.path).metadata.get("modelspec.license", "")
    else:
        card = base.path / "README.md"
        found = FRONT_MATTER_LICENCE.search(card.read_text(encoding="utf-8")[:4000]) if card.is_file() else None
        said = found[1] if found else ""
    return said or (SD15_LICENCE if base.configuration.is_sd15 else OTHER_LICENCE)


def _name_or_value(value: Any) -> Any:
    """Of an optimizer's table its name."""
    return value["name"] if isinstance(value, Mapping) else value
