"""Stage measure: photos and renders to scores.json.

Every cell gets a row a metric: likeness and its gain over the base's render of the same prompt and seed, prompt
fidelity, nearness to a training photo, drift where the prompt leaves the subject out, and for conditioned cells the
agreement of edges. A model that is not there is named and left out with its reason.
"""

from limner.stages.measure.stage import STAGE, VERSION, measure

__all__ = ["STAGE", "VERSION", "measure"]
