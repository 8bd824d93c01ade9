"""What methods say of runs that will not be what their settings say, such as ranks that are not low."""

from __future__ import annotations

from limner.config import Study
from limner.memory.shapes import Shapes
from limner.methods import method_of


def ranks_not_low(study: Study, shapes: Shapes) -> dict[str, str]:
    """A sentence for each run, by its label without the training seed, of which its method has one to say."""
    cautions: dict[str, str] = {}
    for variant in study.variants:
        cautions |= method_of(variant).cautions(variant, shapes.pristine)
    return cautions
