"""The GPU memory that a study will need, told from shapes before any weight is loaded, and settings that fit a card."""

from limner.memory.calibration import CALIBRATION, needed_gib, reserved, usable
from limner.memory.fitting import Fitted, as_setting, faults, fit
from limner.memory.parts import read_parts
from limner.memory.prediction import Parts, StagePeak, adapter_bytes, predict, train_peak
from limner.memory.ranks import ranks_not_low
from limner.memory.shapes import Shapes, read_shapes
from limner.memory.stacking import largest_stack

__all__ = [
    "CALIBRATION",
    "Fitted",
    "Parts",
    "Shapes",
    "StagePeak",
    "adapter_bytes",
    "as_setting",
    "faults",
    "fit",
    "largest_stack",
    "needed_gib",
    "predict",
    "ranks_not_low",
    "read_parts",
    "read_shapes",
    "reserved",
    "train_peak",
    "usable",
]
