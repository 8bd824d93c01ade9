"""Training: what a step is trained on, the step itself, and how it is interrupted and gone on with."""

from limner.training.checkpoint import newest_checkpoint, remove_checkpoints
from limner.training.examples import EncodedPictures, encode_pictures
from limner.training.log import LOG_FILE, TrainingLog, read_log, require_trackers, thinned
from limner.training.loop import Training, Validate, take_steps
from limner.training.optimizer import require_optimizer
from limner.training.setup import set_up, trained_modules

__all__ = [
    "LOG_FILE",
    "EncodedPictures",
    "Training",
    "TrainingLog",
    "Validate",
    "encode_pictures",
    "newest_checkpoint",
    "read_log",
    "remove_checkpoints",
    "require_optimizer",
    "require_trackers",
    "set_up",
    "take_steps",
    "thinned",
    "trained_modules",
]
