"""The studies that are measured, and the same work as arguments of diffusers' scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tomli_w

from bench.pictures import write_pictures

CLASS_NOUN, INSTANCE_PROMPT, CLASS_PROMPT = "cat", "a photo of sks cat", "a photo of cat"
PHOTOS, CLASS_IMAGES = 8, 16
COURSEWORK_RANKS = (2, 16, 128)


@dataclass(frozen=True)
class Ground:
    """What all measured work has in common. `work` keeps bases, pictures and runs."""

    work: Path
    base: Path
    size_px: int
    device: str

    @property
    def photos(self) -> Path:
        """Drawn photos of the subject."""
        return write_pictures(self.work / f"photos-{self.size_px}", PHOTOS, self.size_px)

    @property
    def class_images(self) -> Path:
        """Drawn pictures of the class."""
        folder = self.work / f"class-{self.size_px}"
        return write_pictures(folder, CLASS_IMAGES, self.size_px, first=1000, eyes=False)


@dataclass(frozen=True)
class Training:
    """One training, as limner's variant and as a script's arguments."""

    method: str  # "full" or "lora"
    steps: int
    batch_size: int = 1
    ranks: tuple[int, ...] = ()
    prior: bool = False
    text_encoder: bool = False
    eight_bit: bool = False
    checkpointing: bool = False
    snr_gamma: float | None = None
    learning_rate: float = 1e-6
    precision: str = "auto"
    more: dict[str, Any] = field(default_factory=dict)  # further settings of limner's variant

    def variant(self) -> dict[str, Any]:
        """The [[variants]] table."""
        table: dict[str, Any] = {
            "method": self.method, "steps": self.steps, "batch_size": self.batch_size,
            "learning_rate": self.learning_rate, "prior_preservation": self.prior, "text_encoder": self.text_encoder,
            "optimizer": "adamw8bit" if self.eight_bit else "adamw", "gradient_checkpointing": self.checkpointing,
            "precision": self.precision, "checkpoint_every_steps": 0, "learning_rate_schedule": "constant",
            "warmup_steps": 0,
        }  # fmt: skip
        if self.method == "lora":
            table |= {"rank": list(self.ranks), "targets": "attention"}  # what diffusers' script gives updates to
        if self.snr_gamma is not None:
            table["snr_gamma"] = self.snr_gamma
        return table | self.more

    def script_arguments(self, ground: Ground, out: Path, *, arithmetic: str, rank: int = 0) -> list[str]:
        """Arguments of train_dreambooth.py or train_dreambooth_lora.py; `arithmetic` is fp32, tf32, fp16 or bf16."""
        options: dict[str, Any] = {
            "pretrained_model_name_or_path": ground.base, "instance_data_dir": ground.photos,
            "instance_prompt": INSTANCE_PROMPT, "output_dir": out, "resolution": ground.size_px,
            "train_batch_size": self.batch_size, "max_train_steps": self.steps, "learning_rate": self.learning_rate,
            "lr_scheduler": "constant", "lr_warmup_steps": 0, "checkpointing_steps": self.steps + 1, "seed": 0,
            "mixed_precision": "no" if arithmetic in ("fp32", "tf32") else arithmetic, "report_to": "tensorboard",
        }  # fmt: skip
        flags = {
            "allow_tf32": arithmetic == "tf32",
            "train_text_encoder": self.text_encoder,
            "pre_compute_text_embeddings": not self.text_encoder,  # the faster way where the encoder is frozen
            "use_8bit_adam": self.eight_bit and peer_has_eight_bit(),
            "gradient_checkpointing": self.checkpointing,
        }
        if self.prior:
            options |= {"class_data_dir": ground.class_images, "class_prompt": CLASS_PROMPT}
            options["num_class_images"] = CLASS_IMAGES
            flags["with_prior_preservation"] = True
        if self.method == "lora":
            options["rank"] = rank
        if self.snr_gamma is not None and self.method == "full":
            options["snr_gamma"] = self.snr_gamma  # the LoRA script has no such option
        pairs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return pairs + [f"--{name}" for name, on in flags.items() if on]

    @property
    def script(self) -> str:
        """The script that does the same."""
        return "train_dreambooth.py" if self.method == "full" else "train_dreambooth_lora.py"


def peer_has_eight_bit() -> bool:
    """Whether the scripts can use 8-bit Adam: it needs bitsandbytes."""
    return find_spec("bitsandbytes") is not None


def write_study(folder: Path, ground: Ground, tables: dict[str, Any]) -> Path:
    """A study file in `folder` from tables; photos and base are the ground's."""
    subject = {"photos": str(ground.photos.resolve()), "identifier": "sks", "class_noun": CLASS_NOUN}
    base = {"model": str(ground.base.resolve())}
    prepare = {"size_px": ground.size_px, "focus": "center", "zoom": "picture"}
    return write_toml(folder, {"subject": subject, "base": base, "prepare": prepare} | tables)


def write_toml(folder: Path, tables: dict[str, Any]) -> Path:
    """The study file of these tables in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return path


def training_tables(ground: Ground, trainings: list[Training]) -> dict[str, Any]:
    """The tables of a study that trains and no more; class images are drawn ones."""
    tables: dict[str, Any] = {"variants": [training.variant() for training in trainings]}
    if any(training.prior for training in trainings):
        tables["class_images"] = {"count": CLASS_IMAGES, "folder": str(ground.class_images.resolve())}
    return tables


def rendering_tables(size: tuple[int, int], batch_size: int, count: int, steps: int) -> dict[str, Any]:
    """A study of one prompt and `count` seeds."""
    render = {
        "sampler": "ddim", "steps": steps, "guidance_scale": 7.0, "seeds": list(range(count)), "size": list(size),
        "batch_size": batch_size, "negative_prompt": "deformed, blurry",
        "prompts": [{"name": "photo", "prompt": "a photo of {subject}"}],
    }  # fmt: skip
    return {"variants": [{"method": "lora", "rank": [2]}], "render": render}


def class_tables(count: int, steps: int, more: dict[str, Any]) -> dict[str, Any]:
    """A study that makes class images."""
    settings = {"count": count, "sampler": "ddim", "steps": steps, "guidance_scale": 7.0} | more
    return {"variants": [{"method": "full"}], "class_images": settings}


def coursework_tables(ground: Ground, references: Path) -> dict[str, Any]:
    """500 class images, DreamBooth 800 steps, LoRA 2/16/128 500 steps each, 36 renders, 12 ControlNet renders."""
    full = Training("full", 800, prior=True, text_encoder=True, eight_bit=True, learning_rate=2e-6)
    lora = Training("lora", 500, ranks=COURSEWORK_RANKS, learning_rate=1e-4)
    prompts = [{"name": f"prompt {n}", "prompt": f"a photo of {{subject}}, picture {n}"} for n in range(9)]
    pictures = sorted(write_pictures(references.resolve(), 3, ground.size_px, first=2000).iterdir())
    return class_tables(500, 35, {}) | {
        "variants": [full.variant(), lora.variant()],
        # 9 prompts and 3 references a column: 36 and 12 for the four trained ones; limner adds the untouched base's
        "render": {
            "sampler": "ddim", "steps": 35, "guidance_scale": 7.0, "seeds": [42], "size": [768, 512],
            "prompts": prompts,
        },
        "control": {
            "model": str((ground.base / "controlnet").resolve()), "sampler": "unipc", "steps": 35,
            "guidance_scale": 9.0, "seeds": [7],
            "references": [{"name": path.stem, "image": str(path)} for path in pictures[:3]],
        },
    }  # fmt: skip
