"""What weights do not say: the configuration of each part, the noise schedule, the tokenizer.

A single file of SD 1.5's shapes needs none: they are always the same. One of other widths (a miniature) has its
configuration in the header.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from limner.base.single_file.names import WEIGHT_PARTS
from limner.errors import BaseError

METADATA_KEY = "limner.configuration"
VOCABULARY = Path(__file__).parent.parent / "clip_vocabulary" / "merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
CONFIG_FILES = {part: "config.json" for part in WEIGHT_PARTS} | {"scheduler": "scheduler_config.json"}

SD15: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 4,
        "sample_size": 512,
    },
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 49408,
        "projection_dim": 768,
    },
}
SCHEDULER = {
    "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "clip_sample": False,
}  # fmt: skip
CLASSES = {
    "unet": {
        "_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": False, "downsample_padding": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "flip_sin_to_cos": True, "freq_shift": 0,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, "in_channels": 4, "out_channels": 4,
        "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5, "norm_num_groups": 32,
    },
    "vae": {
        "_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "out_channels": 3, "norm_num_groups": 32,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
        "max_position_embeddings": MAX_TOKENS, "layer_norm_eps": 1e-5, "bos_token_id": 49406,
        "eos_token_id": 49407, "pad_token_id": 49407,
    },
}  # fmt: skip
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "safety_checker": [None, None],
    "requires_safety_checker": False, "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}  # fmt: skip
TOKENIZER_CONFIG = {
    "tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "bos_token": START, "eos_token": END,
    "unk_token": END, "pad_token": END, "do_lower_case": True, "add_prefix_space": False,
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """JSON of each part's configuration file, and the texts of the tokenizer's files by name."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]
    tokenizer: dict[str, str]

    @property
    def is_sd15(self) -> bool:
        """Whether the weights are of SD 1.5's shapes and the tokenizer is CLIP's."""
        same_shapes = all(getattr(self, part).get(key) == value for part in SD15 for key, value in SD15[part].items())
        merges, clip_merges = self.tokenizer.get("merges.txt"), sd15().tokenizer["merges.txt"]
        return same_shapes and (
            merges is None or merges.split() == clip_merges.split()
        )  # a folder may have tokenizer.json alone

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: "epsilon" or "v_prediction"."""
        return self.scheduler.get("prediction_type", "epsilon")

    def with_prediction_type(self, prediction_type: str | None) -> Configuration:
        """A copy with another prediction type; None keeps it."""
        if prediction_type is None:
            return self
        return replace(self, scheduler=self.scheduler | {"prediction_type": prediction_type})

    def metadata(self) -> dict[str, str]:
        """What a single file's header must hold, so that it can be read alone."""
        return {} if self.is_sd15 else {METADATA_KEY: json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)}

    def write(self, folder: Path) -> None:
        """Write a diffusers folder without the weights."""
        for part, file in CONFIG_FILES.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / file).write_text(_json(getattr(self, part)), encoding="utf-8")
        (folder / "tokenizer").mkdir(exist_ok=True)
        for name, text in self.tokenizer.items():
            (folder / "tokenizer" / name).write_text(text, encoding="utf-8")
        scheduler = ["diffusers", self.scheduler.get("_class_name", "PNDMScheduler")]
        (folder / "model_index.json").write_text(_json(MODEL_INDEX | {"scheduler": scheduler}), encoding="utf-8")


@cache
def sd15() -> Configuration:
    """SD 1.5's configuration."""
    parts = {part: CLASSES[part] | SD15[part] for part in SD15}
    return Configuration(**parts, scheduler=SCHEDULER, tokenizer=_clip_tokenizer())


def configuration_of_folder(folder: Path) -> Configuration:
    """What a diffusers folder says. Raises BaseError for a file that is missing or not JSON."""
    read = {part: _read(folder / part / file) for part, file in CONFIG_FILES.items()}
    texts = {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted((folder / "tokenizer").glob("*"))
        if file.suffix in (".json", ".txt")
    }
    return Configuration(**read, tokenizer=texts)


def configuration_of_file(metadata: Mapping[str, str], prediction_type: str | None = None) -> Configuration:
    """The configuration in a single file's header, else SD 1.5's."""
    if METADATA_KEY not in metadata:
        return sd15().with_prediction_type(prediction_type)
    try:
        carried = Configuration(**json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, RecursionError) as error:
        raise BaseError(f"the header's {METADATA_KEY} is damaged ({error}); create the file again") from None
    unsafe = [name for name in carried.tokenizer if Path(name).name != name or name.startswith(".")]
    if unsafe or not all(isinstance(value, dict) for value in asdict(carried).values()):
        raise BaseError(f"the header's {METADATA_KEY} is damaged; create the file again")
    return carried.with_prediction_type(prediction_type)


def _clip_tokenizer() -> dict[str, str]:
    """The tokenizer's files: the vocabulary is 256 bytes, the same at the end of a word, every merge, start and end."""
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8").splitlines()
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: index for index, word in enumerate([*words, START, END])}
    return {
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": _json(TOKENIZER_CONFIG),
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
    }


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the order of GPT-2's byte pairs: printable ones first, as themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unprintable = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(unprintable)]


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(f"{file} cannot be read ({error}); the base needs it") from None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
