"""What a metric is: how it is measured, what it is called, and where it is shown and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from limner.embeddings import PairEmbedder
from limner.metrics.inputs import Measured, MeasureInputs, ModelView, WholeView

Code = Literal["en", "ru"]
ShownAt = Literal["tables", "pictures", "trade-off x", "trade-off y", "rank", "control", "extremes", "pooled"]


@dataclass(frozen=True)
class Words:
    """What a metric is called in one language."""

    title: str  # in headings and in the glossary
    noun: str  # in a sentence
    short: str  # under a picture
    meaning: str  # the glossary's sentence
    more: str = ""  # what a picture with a higher value is, after "Up is …"
    further: tuple[tuple[str, str], ...] = ()  # further entries of the glossary: what else stands beside the metric


@dataclass(frozen=True)
class LimitWords:
    """What is said of pictures above the metric's ceiling, in one language; templates of `reporting.phrases`."""

    some: str
    none: str


@dataclass(frozen=True)
class OfPictures:
    """Measured once, from the pictures' files; None where there is nothing to measure."""

    measure: Callable[[MeasureInputs], Measured | None]


@dataclass(frozen=True)
class OfImageModel:
    """Measured once for each image embedder of `measure.likeness`, models of faces included."""

    measure: Callable[[ModelView], Measured | None]


@dataclass(frozen=True)
class OfWholePictures:
    """Measured once for each image embedder that looks at whole pictures."""

    measure: Callable[[WholeView], Measured | None]


@dataclass(frozen=True)
class OfTextModel:
    """Measured by the text and image pair of `measure.prompt_fidelity`."""

    measure: Callable[[MeasureInputs, PairEmbedder], Measured | None]


@dataclass(frozen=True, eq=False)  # one object a metric
class Metric:
    """One metric. Its rows in scores.json are named `name`, or `name/MODEL` where a model measures it."""

    name: str
    source: OfPictures | OfImageModel | OfWholePictures | OfTextModel
    words: Mapping[Code, Words]
    better: Literal["higher", "lower"] | None = None
    unit: str = ""  # on the axis of a chart
    decimals: int = 3
    shown: frozenset[ShownAt] = frozenset({"tables"})
    pictures: Literal["all", "prompts", "references"] = "all"
    """Which tables it stands in: those of prompts, those of conditioned pictures, or both. What is asked of references
    alone is compared over them, all else over prompts."""
    compared: bool = False
    """With the base, between variants and over ranks: statistics, findings and conclusions."""
    leads: bool = False
    """Stands at the head of the report even where no difference is shown."""
    required: bool = False
    """Every study is expected to have it: where it could not be measured, the report says so."""
    has_gain: bool = False
    """Its gain over the base and its share of the span from floor to ceiling stand beside it."""
    needs_ceiling: bool = False
    """Without a ceiling nothing is concluded, and prompts under whose style its model has little power are left out."""
    anchored_by: str = ""
    """The metric of the same model whose anchors hold for it; its own unless given."""
    from_base: bool = False
    """Measured from the base's picture, which has none of its own: means instead of differences from the base."""
    limit: Mapping[Code, LimitWords] | None = None
    """Where given, pictures above its ceiling are counted, and this is said of them."""
    pooled_prompts: Literal["all", "subject"] = "all"
    """The prompts that count where subjects are pooled: all that have a value, or those that name the subject."""
    unmeasured: Callable[[MeasureInputs], str] | None = None
    """Why the study's prompts leave nothing to measure, for the notes; "" where they do not."""

    def of(self, model: str) -> str:
        """The name of its rows where `model` measures it."""
        return f"{self.name}/{model}"


def role_of(metric: str) -> str:
    """`likeness/facebook/dino-vits16` is a `likeness`: a row's metric up to the first "/"."""
    return metric.partition("/")[0]
