"""What stages that work with a base have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from limner.base import Base
from limner.config import Memory, Subject
from limner.progress import SILENT, Progress


@dataclass(frozen=True)
class Context:
    """Whose pictures are made or trained on, with which base, within what memory, and who is told how it goes."""

    subject: Subject
    base: Callable[[], Base]
    """Loads the base when weights are first needed; whoever gives it may keep it."""
    base_hash: str
    """Names all that `base` loads: weights, another VAE, layers left out."""
    memory: Memory = field(default_factory=Memory)
    progress: Progress = SILENT
