"""Records of whole runs: the lock file, a subject's summary and the pooled figures of many subjects."""

from __future__ import annotations

from typing import Any

from limner.records.base import MachineRecord, Record
from limner.records.scores import ModelRecord, PowerOthers
from limner.records.training import ChosenStep


class LockedBase(Record):
    """The base model of a run."""

    name: str
    """As the study names it."""
    content_hash: str
    """The hash of its weights."""


class LockedPhotos(Record):
    """The photo set of a run."""

    content_hash: str
    """The hash of its files."""


class LockFile(Record):
    """`study.lock.json`: every resolved setting and where it came from, versions, hashes, consent."""

    study: dict[str, Any]
    """Every setting of the study, resolved."""
    origins: dict[str, str]
    """Where each setting came from, by its dotted name: `study`, `limner.json` (the base's), `default`, or `memory`
    where it was chosen to fit a card."""
    source: str
    """The study file."""
    base: LockedBase
    """The base model."""
    photos: LockedPhotos
    """The photo set."""
    adapters: dict[str, str] = {}
    """SHA-256 of each LoRA that was made elsewhere, by name."""
    consent: str = ""
    """What the study says of the consent of who is shown."""
    ranks_not_low: dict[str, str] = {}
    """A sentence for each LoRA whose rank is no longer low for some layers."""
    device: str = ""
    """The device of the first run."""
    machine: MachineRecord = MachineRecord()
    """Machine and libraries of the first run."""
    chosen: dict[str, ChosenStep] = {}
    """By variant the step that was delivered, where validations decide."""


class SweepRecord(Record):
    """What LoRAs share that differ in nothing but rank and learning rate."""

    settings: str
    """All other settings, as one text."""
    alpha_rule: str
    """How alpha follows from the rank."""
    alpha: float | None = None
    """Alpha, where it is fixed."""
    strength: float = 1.0
    """The strength at which the LoRAs were rendered."""


class VariantSummary(Record):
    """One variant of a study, or the base."""

    name: str
    """The variant's name."""
    rank: int | None
    """The rank of a LoRA."""
    learning_rate: float | None
    """The learning rate, null for the base."""
    training_seeds: list[int]
    """The seeds it was trained with."""
    sweep: SweepRecord | None
    """The sweep that it belongs to."""


class SummaryAnchors(Record):
    """A metric's anchors in one subject's run; as in `scores.json`."""

    floor: float | None
    """What the untouched base reaches."""
    ceiling: float | None
    """What real photos reach."""
    photos: int | None = None
    """How many photos likeness was measured against."""
    power: dict[str, float | None] = {}
    """By prompt's name, how often a photo in its style is recognised."""
    power_others: PowerOthers | None = None
    """The others among which the subject had to be found."""
    class_prompts: list[str] = []
    """Names of the prompts for the class alone."""
    unrelated_prompts: list[str] = []
    """Names of the prompts that have nothing to do with the subject."""


class SubjectSummary(Record):
    """`DIR/NAME/summary.json`: what one subject's run says, in figures."""

    subject: str
    """The subject's name, that of its folder."""
    class_noun: str
    """What it is one of."""
    photos: int
    """How many photos it has."""
    held_out_photos: int
    """How many of them no training sees."""
    pictures: int
    """How many pictures were rendered."""
    pictures_a_mean: int
    """How many pictures of one prompt a mean is over."""
    prompts: dict[str, str]
    """The prompts, by name."""
    variants: list[VariantSummary]
    """The variants, the base first."""
    not_low: list[str]
    """LoRAs whose rank is no longer low for some layers."""
    notices: list[str]
    """A sentence for each of these."""
    models: dict[str, ModelRecord]
    """By metric, the model behind it."""
    anchors: dict[str, SummaryAnchors]
    """By metric, what its values are to be seen against."""
    values: dict[str, dict[str, dict[str, dict[str, float]]]]
    """Means over pictures by metric, variant, training seed (as text, empty for the base) and prompt."""
    copies: dict[str, dict[str, tuple[int, int]]]
    """By metric and variant: how many pictures are above the copying limit, and of how many."""
    machine: MachineRecord = MachineRecord()
    """Machine and libraries of the run."""
    device: str = ""
    """The device of the run."""


class PooledRecord(Record):
    """`DIR/pooled.json`: the summaries of many subjects, from which the pooled page is made."""

    title: str
    """The title of the page."""
    subjects: list[SubjectSummary]
    """What was measured, by subject."""
    faults: dict[str, str]
    """By subject, why it was not measured."""
