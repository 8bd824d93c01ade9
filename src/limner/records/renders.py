"""Records of rendered pictures: the grid of renders and that of conditioned ones."""

from __future__ import annotations

from typing import Literal

from limner.records.base import ArtifactRecord, Record, Size


class Cell(Record):
    """One picture of a grid: what was asked for, and where it lies."""

    variant: str
    """The label of its adapter, with its strength where that is not 1; `base` is the untouched model."""
    prompt: str
    """The name of the prompt's row; of a conditioned picture the prompt's text."""
    seed: int
    """The seed of its first noise."""
    image_index: int
    """Which of the images of one seed it is, from 0."""
    file: str
    """Its file, relative to the grid's folder."""
    text: str = ""
    """The prompt as it was rendered."""
    negative_prompt: str = ""
    """What it was to avoid."""
    reference: str | None = None
    """The name of the conditioning image; null for a picture without one."""
    conditioning_scale: float | None = None
    """The strength of the conditioning."""
    training_seed: int | None = None
    """The seed that the adapter was trained with."""
    lora_scale: float | None = None
    """The strength of the adapter's low-rank part, null where it has none."""
    size: Size = (0, 0)
    """Width and height in px."""
    flagged: bool | None = None
    """Whether the safety checker blanked it; null where none ran."""


class RenderSetRecord(ArtifactRecord):
    """`renders/`: every prompt, seed and image with the untouched base and with every variant."""

    cells: list[Cell]
    """The pictures, in the order variant, row, seed, image."""
    keys: dict[str, str]
    """The key of each picture, by file: it names everything the picture was made from."""


class ControlReferenceRecord(Record):
    """A reference as it was used."""

    name: str
    """Its name in the study."""
    image: str
    """The file of the resized picture."""
    canny: str
    """The file of its edges."""
    size: Size
    """Width and height in px."""
    edges: Literal["canny", "given"] = "canny"
    """How the edges came about: found in the picture, or drawn by the user; left out for the first."""


class ControlSetRecord(RenderSetRecord):
    """`control/`: renders conditioned on the edges of reference pictures."""

    references: list[ControlReferenceRecord]
    """The conditioning images."""
