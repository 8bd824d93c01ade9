"""What a header's metadata say: prediction type, trigger words, how the file was made (ModelSpec, kohya's ss_*)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

EPSILON, V_PREDICTION = "epsilon", "v_prediction"
PREDICTION_TYPES = {
    "epsilon": EPSILON,
    "eps": EPSILON,
    "v": V_PREDICTION,
    "v_prediction": V_PREDICTION,
    "v-prediction": V_PREDICTION,
}
EPSILON_FAMILIES = ("sd15", "sd15-inpainting", "sd2-inpainting", "sdxl", "sdxl-refiner")
UNSTATED = {"sd2": "not stated: SD 2 comes as base (epsilon) and as 768-v (v_prediction) with equal shapes"}
TRAINING_FIELDS = {
    "modelspec.title": "title", "modelspec.author": "author", "modelspec.license": "licence", "modelspec.date": "date",
    "modelspec.architecture": "architecture", "modelspec.resolution": "resolution",
    "modelspec.implementation": "implementation", "modelspec.usage_hint": "usage hint",
    "ss_output_name": "name", "ss_base_model_version": "base version", "ss_sd_model_name": "base",
    "ss_sd_model_hash": "base hash", "ss_new_sd_model_hash": "base hash (sha256)", "ss_network_module": "network",
    "ss_network_dim": "rank", "ss_network_alpha": "alpha", "ss_learning_rate": "learning rate",
    "ss_unet_lr": "learning rate of the UNet", "ss_text_encoder_lr": "learning rate of the text encoder",
    "ss_max_train_steps": "steps", "ss_num_train_images": "images", "ss_optimizer": "optimizer", "ss_seed": "seed",
    "ss_clip_skip": "clip skip", "ss_resolution": "training resolution",
}  # fmt: skip
HIDDEN = ("limner.configuration", "limner.text_encoder_keys", "limner.settings")  # only for programs
LONGEST = 200  # characters of a value that are shown
LEADING_REPEATS = "_"  # kohya's folders are REPEATS_words


def prediction_type_of(metadata: Mapping[str, str], keys: Iterable[str], family: str) -> tuple[str | None, str]:
    """Prediction type and how it is known: from the metadata, a marker key, or the family's rule."""
    said = metadata.get("modelspec.prediction_type", "").lower()
    kohya = {"true": V_PREDICTION, "false": EPSILON}.get(metadata.get("ss_v_parameterization", "").lower())
    marked = any(key == "v_pred" or key.endswith(".v_pred") for key in keys)
    candidates: list[tuple[str | None, str]] = [
        (PREDICTION_TYPES.get(said), "modelspec.prediction_type in its header"),
        (kohya, "ss_v_parameterization in its header"),
        (V_PREDICTION if marked else None, "a key named v_pred in it"),
        (V_PREDICTION if "-768-v" in metadata.get("modelspec.architecture", "") else None, "modelspec.architecture"),
        (EPSILON if family in EPSILON_FAMILIES else None, "nothing in it says otherwise, and the family predicts that"),
        (None, UNSTATED.get(family, "not stated")),
    ]
    return next((each for each in candidates if each[0]), candidates[-1])


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """Words that a file says it was trained on: ModelSpec's phrase, else the folders of kohya's trainer."""
    phrase = metadata.get("modelspec.trigger_phrase", "")
    if phrase:
        return [word.strip() for word in phrase.split(",") if word.strip()]
    words: list[str] = []
    for key in ("ss_tag_frequency", "ss_dataset_dirs"):
        try:
            folders = json.loads(metadata.get(key, "{}"))
        except (ValueError, RecursionError):
            continue
        for folder in folders if isinstance(folders, dict) else []:
            repeats, _, word = folder.partition(LEADING_REPEATS)
            words.append(word if repeats.isdigit() and word else folder)
    return list(dict.fromkeys(word for word in words if word))


def training_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata that say how the file was made, under readable names."""
    known = {
        TRAINING_FIELDS[key]: value[:LONGEST]
        for key, value in metadata.items()
        if key in TRAINING_FIELDS and value not in ("", "None")
    }
    limner_fields = {
        key.removeprefix("limner.").replace("_", " "): value[:LONGEST]
        for key, value in metadata.items()
        if key.startswith("limner.") and key not in HIDDEN
    }
    return dict(sorted((known | limner_fields).items()))
