"""What a file says of itself to other programs: ModelSpec (Stability AI), the `ss_*` that kohya's family reads, a card.

ComfyUI, A1111 and Forge tell a LoRA's family by `ss_base_model_version` and `ss_v2`, and show its words and settings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limner.adapters.formats import LowRank
from limner.base.weights.streaming import HASH_KEY, NO_HASH

SD15_LICENCE = "creativeml-openrail-m"
LICENCE_LINKS = {SD15_LICENCE: "https://huggingface.co/spaces/CompVis/stable-diffusion-license"}
OTHER_LICENCE = "other"
SETTINGS = {  # of a training, as kohya calls them
    "learning_rate": "ss_learning_rate", "text_encoder_learning_rate": "ss_text_encoder_lr",
    "steps": "ss_max_train_steps", "training_seed": "ss_seed",
    "batch_size": "ss_batch_size_per_device", "gradient_accumulation_steps": "ss_gradient_accumulation_steps",
    "optimizer": "ss_optimizer", "learning_rate_schedule": "ss_lr_scheduler", "warmup_steps": "ss_lr_warmup_steps",
    "snr_gamma": "ss_min_snr_gamma", "noise_offset": "ss_noise_offset", "prior_loss_weight": "ss_prior_loss_weight",
    "max_gradient_norm": "ss_max_grad_norm", "gradient_checkpointing": "ss_gradient_checkpointing",
}  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from, as far as it is known."""

    title: str
    base_name: str = ""
    base_hash: str = ""  # of its file, or over all files of its folder
    base_is_file: bool = False
    licence: str = OTHER_LICENCE
    instance_prompt: str = ""
    phrase: str = ""  # what stands for the subject: identifier and class noun
    identifier: str = ""
    size_px: int = 512
    prediction_type: str = "epsilon"
    clip_skip: int = 0
    images: int = 0
    date: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def full_metadata(origin: Provenance) -> dict[str, str]:
    """Of a whole base that was trained or merged, in the original layout."""
    return _modelspec(
        origin, "stable-diffusion-v1", "https://github.com/Stability-AI/generative-models"
    ) | _limner_metadata(origin)


def lora_metadata(origin: Provenance, low_rank: LowRank) -> dict[str, str]:
    """Of a LoRA: ModelSpec, kohya's minimum and its settings, and limner's own under `limner.`."""
    updates = [update for of_module in low_rank.values() for update in of_module.values()]
    rank = Counter(update.rank for update in updates).most_common(1)[0][0]
    alpha = Counter(update.alpha for update in updates).most_common(1)[0][0]
    network = {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_v_parameterization": str(origin.prediction_type == "v_prediction"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_args": json.dumps(_convolutions(low_rank)),
        "ss_output_name": origin.title,
        "ss_sd_model_name": origin.base_name,
        "ss_new_sd_model_hash": origin.base_hash if origin.base_is_file else "None",
        "ss_resolution": f"({origin.size_px}, {origin.size_px})",
        "ss_clip_skip": str(origin.clip_skip + 1) if origin.clip_skip else "None",  # theirs counts from the end
        "ss_num_train_images": str(origin.images),
    }
    if origin.phrase:
        network["ss_tag_frequency"] = json.dumps({f"1_{origin.phrase}": {origin.phrase: max(1, origin.images)}})
    network |= {name: _text(origin.settings[key]) for key, name in SETTINGS.items() if key in origin.settings}
    return _modelspec(origin, "stable-diffusion-v1/lora", "diffusers") | network | _limner_metadata(origin)


def _convolutions(low_rank: LowRank) -> dict[str, str]:
    """kohya's arguments for the rank of 3x3 convolutions, where there are some."""
    wide = [
        update for of_module in low_rank.values() for update in of_module.values() if update.down.shape[2:] > (1, 1)
    ]
    return {"conv_dim": str(wide[0].rank), "conv_alpha": f"{wide[0].alpha:g}"} if wide else {}


def _modelspec(origin: Provenance, architecture: str, implementation: str) -> dict[str, str]:
    said = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture,
        "modelspec.implementation": implementation,
        "modelspec.title": origin.title,
        "modelspec.resolution": f"{origin.size_px}x{origin.size_px}",
        "modelspec.prediction_type": "v" if origin.prediction_type == "v_prediction" else "epsilon",
        "modelspec.date": origin.date,
        "modelspec.license": origin.licence,
        "modelspec.trigger_phrase": origin.phrase,
        HASH_KEY: NO_HASH,
    }
    return {key: value for key, value in said.items() if value}


def _limner_metadata(origin: Provenance) -> dict[str, str]:
    said = {
        "limner.identifier": origin.identifier,
        "limner.instance_prompt": origin.instance_prompt,
        "limner.base": origin.base_name,
        "limner.base_hash": origin.base_hash,
        "limner.settings": json.dumps(dict(origin.settings), sort_keys=True) if origin.settings else "",
    }
    return {key: value for key, value in said.items() if value}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def card(origin: Provenance, how: Sequence[str], pictures: Mapping[str, str], *, is_model: bool) -> str:
    """A model card in Markdown with the YAML head that the hub reads: of a whole model, or of a LoRA.

    `how` are sentences on using it; `pictures` map a prompt to a picture's path beside the card.
    """
    tags = ["text-to-image", "stable-diffusion", "diffusers"]
    tags += ["dreambooth"] if is_model else ["lora", "template:sd-lora"]
    known = origin.licence in LICENCE_LINKS
    head: dict[str, Any] = {
        "base_model": origin.base_name,
        "license": origin.licence if known else OTHER_LICENCE,
        "instance_prompt": origin.instance_prompt or origin.phrase,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": tags,
    }
    if not known and origin.licence != OTHER_LICENCE:
        head["license_name"] = origin.licence
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items() if value)]
    if pictures:
        lines.append("widget:")
        for prompt, path in pictures.items():
            lines += [f"- text: {json.dumps(prompt, ensure_ascii=False)}", "  output:", f"    url: {json.dumps(path)}"]
    lines += ["---", "", f"# {origin.title}", "", *(f"{sentence}\n" for sentence in how)]
    if origin.phrase:
        lines += [f"In a prompt the subject is `{origin.phrase}`.", ""]
    lines += _facts(origin)
    lines += [f"![{prompt}]({path})" for prompt, path in pictures.items()]
    return "\n".join(lines).rstrip() + "\n"


def _spoken(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:] if not words.startswith("snr") else words.replace("snr", "SNR")


def _plainly(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else _text(value)


def _facts(origin: Provenance) -> list[str]:
    facts = {"Base": origin.base_name, "Base's hash (SHA-256)": origin.base_hash, "Licence of the base": origin.licence}
    facts |= {"Photos": str(origin.images) if origin.images else "", "Trained": origin.date}
    facts |= {_spoken(name): _plainly(value) for name, value in origin.settings.items()}
    shown = {name: value for name, value in facts.items() if value not in ("", "None")}
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in shown.items()), ""] if shown else []
