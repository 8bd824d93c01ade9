"""Records of `scores.json`: one row a value, and what the values are to be seen against."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from limner.records.base import MachineRecord, Record

Square = tuple[int, int, int, int]  # left, top, right and lower edge in px


class PictureKey(Record):
    """What finds a picture again."""

    variant: str
    """As in the picture's cell."""
    prompt: str
    """As in the picture's cell."""
    reference: str | None
    """The conditioning image, null for a picture without one."""
    seed: int
    """As in the picture's cell."""
    image_index: int
    """As in the picture's cell."""
    training_seed: int | None
    """The seed that the variant was trained with."""
    conditioning_scale: float | None
    """The strength of the conditioning."""


class PictureColumns(PictureKey):
    """A picture by one metric."""

    metric: str
    """What was measured: its role, a slash and the model's name."""


class ScoreRow(PictureColumns):
    """One value of one picture."""

    value: float | None
    """The value, rounded to six decimals."""


class NearestPhoto(PictureColumns):
    """The photo that a picture's value is about."""

    photo: str
    """Its file in `photos/`."""


class HeadSquare(PictureKey):
    """What likeness compares of one picture, where it compares heads."""

    square: Square | None
    """Left, top, right and lower edge in px of the square around the subject's head; null where no head was found, and
    the whole picture is compared with whole photos."""


class PhotoSquare(Record):
    """The same of one photo."""

    photo: str
    """Its file in `photos/`."""
    square: Square | None
    """As in a picture; null where no head was found, and only pictures without a head are compared with the photo."""


class PowerOthers(Record):
    """The pictures of others of the class, among which the subject had to be found."""

    origin: str
    """Where they come from."""
    pictures: int
    """How many there are."""
    real: bool
    """Whether they are photos, not renders."""


class WithoutFace(Record):
    """Pictures in which a model of faces found none."""

    photos: int
    """How many of the photos."""
    renders: int
    """How many of the renders."""


class Anchors(Record):
    """What a metric's values are to be seen against. Fields after `note` belong to some metrics only."""

    ceiling: float | None
    """What real photos reach, null where there is none."""
    floor: float | None
    """What the untouched base reaches, null where there is none."""
    note: str
    """What both mean, or why they are missing."""
    photos: int | None = None
    """Likeness: how many photos it was measured against."""
    held_out: bool | None = None
    """Likeness: whether these photos were held out of training."""
    power: dict[str, float | None] = {}
    """Likeness: by prompt's name, how often a photo in the prompt's style is recognised, from 0 to 1; null where that
    could not be measured."""
    power_styles: dict[str, list[str] | None] = {}
    """Likeness: by prompt's name the styles that it names, null where one is not known."""
    power_others: PowerOthers | None = None
    """Likeness: the others among which the subject had to be found."""
    power_note: str = ""
    """Likeness: what power means, or why it could not be measured."""
    without_face: WithoutFace | None = None
    """Likeness by a model of faces: where it found none."""
    photo_similarities: list[float] | None = None
    """Copying: the similarity of each training photo to its nearest other, ascending."""
    share_above: dict[str, float] = {}
    """Copying: by variant the share of pictures above the ceiling."""
    class_prompts: list[str] = []
    """Drift: names of the prompts for the class alone."""
    unrelated_prompts: list[str] = []
    """Drift: names of the prompts that have nothing to do with the subject."""
    details: dict[str, Any] = {}
    """What another metric adds of its own."""


class ModelRecord(Record):
    """The model behind a metric."""

    name: str
    """The model's name."""
    status: Literal["used", "left out"]
    """Whether it measured."""
    note: str
    """Why it was left out, or how it was used."""


class ControlSummary(Record):
    """The conditioned pictures of one variant at one conditioning scale."""

    variant: str
    """The variant."""
    conditioning_scale: float
    """The strength of the conditioning."""
    pictures: int
    """How many pictures there are."""
    means: dict[str, float]
    """The mean of each metric."""


class ScoresManifest(Record):
    """What made the scores, from what."""

    stage: str
    """`measure`."""
    version: int
    """The stage's version."""
    record_version: int
    """The version of this file's record; a reader refuses a larger one than it knows."""
    key: str
    """SHA-256 of stage, version, settings and inputs."""
    settings: dict[str, Any]
    """The resolved settings that the stage read."""
    inputs: dict[str, Any]
    """Content hashes of what went in."""
    made: MachineRecord
    """When, where and with what it was made."""
    manifest_hash: str = ""
    """SHA-256 of the whole file as canonical JSON without this field."""


class ScoresRecord(Record):
    """`scores.json`: every value of every picture."""

    RECORD_VERSION: ClassVar[int] = 2  # 1: written before records had versions

    rows: list[ScoreRow]
    """One row a value."""
    anchors: dict[str, Anchors]
    """By metric, what its values are to be seen against."""
    models: dict[str, ModelRecord]
    """By metric, the model that measured it or would have."""
    notes: list[str]
    """What a reader of the scores should know."""
    control: list[ControlSummary]
    """Conditioned pictures, summed up by variant and conditioning scale."""
    nearest_photos: list[NearestPhoto]
    """For each picture the photo that it is nearest to."""
    head_squares: list[HeadSquare] = []
    """For each picture what likeness compares of it; empty where likeness compares whole pictures."""
    photo_squares: list[PhotoSquare] = []
    """The same of the photos."""
    manifest: ScoresManifest
    """What made them."""
