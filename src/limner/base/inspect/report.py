"""What inspecting a file or folder found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

UNKNOWN = "unknown"
TITLES = {
    "sd15": "Stable Diffusion 1.5",
    "sd15-inpainting": "Stable Diffusion 1.5 inpainting",
    "sd2": "Stable Diffusion 2",
    "sd2-inpainting": "Stable Diffusion 2 inpainting",
    "sdxl": "SDXL",
    "sdxl-refiner": "SDXL refiner",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX",
    "lora-sd15": "LoRA of Stable Diffusion 1.5",
    "lora-sd2": "LoRA of Stable Diffusion 2",
    "lora-sdxl": "LoRA of SDXL",
    "lora-other": "LoRA of another family",
    "controlnet-sd15": "ControlNet of Stable Diffusion 1.5",
    "vae": "VAE",
    "textual-inversion": "textual inversion",
    UNKNOWN: "no model that limner knows",
}


@dataclass(frozen=True)
class FileReport:
    """What a file or folder is. `family` is one of TITLES' keys; "unknown" means it was not identified."""

    path: str
    family: str
    layout: str = ""  # how its weights are named: "original", "diffusers folder", "kohya", …
    prediction_type: str | None = None
    prediction_type_from: str = "not stated"
    precision: str | None = None  # of most of its numbers
    precisions: dict[str, int] = field(default_factory=dict)  # numbers of each
    parameter_count: int = 0  # without moving averages
    parts: list[str] = field(default_factory=list)
    trigger_words: list[str] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)  # what its header says about its training
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_identified(self) -> bool:
        """Whether the family is known, however incomplete the file."""
        return self.family != UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{self.path}: {TITLES[self.family]}" + (f" ({self.layout})" if self.layout else "")]
        if self.is_identified:
            shares = ", ".join(f"{count:,} in {name}" for name, count in self.precisions.items())
            lines.append(f"  parameters: {self.parameter_count:,} ({shares})")
            lines.append(f"  prediction type: {self.prediction_type or 'unknown'} ({self.prediction_type_from})")
        if self.parts:
            lines.append(f"  parts: {', '.join(self.parts)}")
        if self.trigger_words:
            lines.append(f"  trigger words: {', '.join(self.trigger_words)}")
        lines += [f"  {name}: {value}" for name, value in self.training.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return lines + [f"  problem: {problem}" for problem in self.problems]
