"""Training: what a step is trained on, the step itself, and how it is interrupted and gone on with."""

from limner.training.checkpoint import newest_checkpoint, newest_step, remove_checkpoints
from limner.training.examples import EncodedPictures, encode_pictures
from limner.training.log import LOG_FILE, TrainingLog, read_log, require_trackers, thinned
from limner.training.loop import Place, Training, Validate, take_steps
from limner.training.setup import set_up, trained_modules

__all__ = [
    "LOG_FILE",
    "EncodedPictures",
    "Place",
    "Training",
    "TrainingLog",
    "Validate",
    "encode_pictures",
    "newest_checkpoint",
    "newest_step",
    "read_log",
    "remove_checkpoints",
    "require_trackers",
    "set_up",
    "take_steps",
    "thinned",
    "trained_modules",
]
