"""What is measured of pictures: a metric is one module, named here once.

Its `Metric` says how it is measured, what it is called in both of the report's languages, where it is shown and
whether it is compared. The measure stage, the statistics and the report go through them in this order.
"""

from limner.metrics.class_likeness import CLASS_LIKENESS
from limner.metrics.copying import COPYING
from limner.metrics.diversity import DIVERSITY
from limner.metrics.drift import DRIFT
from limner.metrics.edge_agreement import EDGE_AGREEMENT
from limner.metrics.inputs import Measured, MeasureInputs, ModelView, WholeView, compared_photos
from limner.metrics.likeness import LIKENESS
from limner.metrics.likeness_gain import LIKENESS_GAIN
from limner.metrics.metric import (
    Code,
    LimitWords,
    Metric,
    OfImageModel,
    OfPictures,
    OfTextModel,
    OfWholePictures,
    ShownAt,
    Words,
    role_of,
)
from limner.metrics.others import MOST_OTHERS, OtherPictures, find_others
from limner.metrics.prompt_fidelity import PROMPT_FIDELITY
from limner.metrics.registry import all_metrics, anchors_name, metric_named, metrics_shown, register

for _metric in (
    LIKENESS,
    LIKENESS_GAIN,
    PROMPT_FIDELITY,
    CLASS_LIKENESS,
    COPYING,
    DRIFT,
    DIVERSITY,
    EDGE_AGREEMENT,
):
    register(_metric)

__all__ = [
    "LIKENESS",
    "MOST_OTHERS",
    "PROMPT_FIDELITY",
    "Code",
    "LimitWords",
    "MeasureInputs",
    "Measured",
    "Metric",
    "ModelView",
    "OfImageModel",
    "OfPictures",
    "OfTextModel",
    "OfWholePictures",
    "OtherPictures",
    "ShownAt",
    "WholeView",
    "Words",
    "all_metrics",
    "anchors_name",
    "compared_photos",
    "find_others",
    "metric_named",
    "metrics_shown",
    "register",
    "role_of",
]
