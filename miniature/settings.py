"""The settings of the family: sizes, budgets, batch sizes and rates, all in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PICTURE_PX = 256
LATENT_PX = PICTURE_PX // 8
CLIP_PX = 128
TEACHER_PX = 160
MAX_TOKENS = 77

TEXT_HIDDEN = 160
TEXT_LAYERS = 4
VISION_HIDDEN = 160
VISION_LAYERS = 6
HEADS = 5

VAE_CHANNELS = (32, 64, 128, 128)
UNET_CHANNELS = (64, 96, 128, 128)
CONTROL_CHANNELS = (8, 16, 32, 64)

TRAIN_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012

CAPTIONS_PER_CLASS = 64
PHOTO_VIEWS = 12
STYLE_VIEWS = 3
CONTROL_VIEWS = 8
CANNY_LOW = 100
CANNY_HIGH = 200


@dataclass(frozen=True)
class Rates:
    """How one part is optimised."""

    batch: int
    learning_rate: float
    muon: bool = False
    """Muon for the matrices, AdamW for the rest; else AdamW alone."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    ema_powers: tuple[float, ...] = (7.0, 17.0)
    """Averages of several lengths are kept, 0.1 and 0.05 of the steps so far; the one that validates best is the
    result (Karras et al. 2023, arXiv 2312.02696, section 3.1)."""
    warmup_steps: int = 200
    clip_norm: float = 1.0
    compile: bool = True
    """False where compiling costs more of the budget than it gives back."""


RATES = {
    "vae": Rates(batch=32, learning_rate=5e-4, muon=True),
    "clip": Rates(batch=1024, learning_rate=1e-3, weight_decay=0.1, compile=False),
    "unet": Rates(batch=512, learning_rate=6e-4, muon=True, warmup_steps=300),
    "controlnet": Rates(batch=256, learning_rate=4e-4, muon=True),
}
"""A batch is one GPU's."""


@dataclass(frozen=True)
class Job:
    """What one command was asked to do."""

    part: str
    data: Path
    work: Path
    out: Path
    device: str
    seed: int
    efficientnet: str
    steps: int | None
    max_seconds: float | None
    batch: int | None
    limit_pictures: int | None
    captions_per_class: int
    photo_views: int
    style_views: int
    use_compile: bool
    use_graph: bool
    use_decay: bool
    workers: int
    gpus: int
    optimizer: str | None
    decoder_only: bool

    @property
    def folder(self) -> Path:
        """WORK/PART, where this part's files lie."""
        return self.work / self.part
