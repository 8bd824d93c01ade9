"""Training: what a step is trained on, the step itself, and how it is interrupted and gone on with."""

from limner.training.checkpoint import newest_checkpoint, newest_step, remove_checkpoints
from limner.training.choosing import RULE_VERSION, choose, joined, most_kept
from limner.training.examples import EncodedPictures, encode_pictures
from limner.training.held_out import HeldOutLoss
from limner.training.log import LOG_FILE, TrainingLog, read_log, require_trackers, thinned
from limner.training.loop import FULL_DTYPE, Training, Validate, VariantInTraining, take_steps
from limner.training.setup import set_up
from limner.training.validation import Curve, drop_kept, open_curve

__all__ = [
    "FULL_DTYPE",
    "LOG_FILE",
    "RULE_VERSION",
    "Curve",
    "EncodedPictures",
    "HeldOutLoss",
    "Training",
    "TrainingLog",
    "Validate",
    "VariantInTraining",
    "choose",
    "drop_kept",
    "encode_pictures",
    "joined",
    "most_kept",
    "newest_checkpoint",
    "newest_step",
    "open_curve",
    "read_log",
    "remove_checkpoints",
    "require_trackers",
    "set_up",
    "take_steps",
    "thinned",
]
