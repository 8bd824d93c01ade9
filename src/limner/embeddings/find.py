"""Finds the embedding models without loading a weight; their identities are part of keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from limner.artifacts import canonical_json, hash_bytes, hash_file
from limner.base import BaseLocation
from limner.base.find import HUB_FILES, find_on_hub
from limner.base.weights.header import numbers_in
from limner.embeddings.clip import ClipPair, load_base_clip, load_clip
from limner.embeddings.crops import Crop
from limner.embeddings.efficientnet import EFFICIENTNET, EfficientNetLite0, efficientnet_weights
from limner.embeddings.embedder import ImageEmbedder, PairEmbedder
from limner.embeddings.faces import SFACE, SFACE_FILE, SFACE_HUB, FaceEmbedder, aligned_face, faces_identity
from limner.embeddings.vision import VisionTransformer
from limner.errors import BaseError, EmbedderError

BASE = "base"
# Some older checkpoints exist as .bin only; torch reads only tensors from it (weights_only).
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
FP32_BYTES = 4
READ_FILES = (*WEIGHT_FILES, "config.json", "preprocessor_config.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class EmbedderLocation:
    """An embedding model on this machine. `path` is a checkpoint folder, the base's folder or a weights file."""

    name: str
    kind: Literal["efficientnet", "base", "clip", "vision", "faces"]
    path: Path

    @cached_property
    def identity(self) -> str:
        """SHA-256 over the content of weights and configuration, independent of their location."""
        if self.kind == "efficientnet":
            return hash_file(self.path)
        if self.kind == "faces":
            return faces_identity(self.path)
        if self.kind == "base":
            files = [f for part in ("clip", "text_encoder", "tokenizer") for f in (self.path / part).iterdir()]
        else:
            files = [self.path / name for name in READ_FILES]
        hashes = {f.relative_to(self.path).as_posix(): hash_file(f) for f in sorted(files) if f.is_file()}
        return hash_bytes(canonical_json(hashes))

    @property
    def device_bytes(self) -> int:
        """The size of its weights on the device, in fp32; models of faces run on the processor."""
        if self.kind == "faces":
            return 0
        if self.kind == "efficientnet":
            return self.path.stat().st_size
        if self.kind == "base":
            files = [file for part in ("clip", "text_encoder") for file in (self.path / part).glob("*.safetensors")]
            return FP32_BYTES * sum(map(numbers_in, files))
        safetensors, pickled = (self.path / name for name in WEIGHT_FILES)
        return FP32_BYTES * numbers_in(safetensors) if safetensors.is_file() else pickled.stat().st_size

    def load_image(self, device: torch.device | str = "cpu") -> ImageEmbedder:
        """Load it to compare pictures. Raises EmbedderError for a model that cannot compare them."""
        if self.kind == "efficientnet":
            return EfficientNetLite0(device)
        if self.kind == "faces":
            return FaceEmbedder(self.name, self.identity, self.path)
        if self.kind == "vision":
            return VisionTransformer(self.name, self.identity, self.path, device)
        return self._load_clip(device)

    def required_crop(self) -> Crop | None:
        """The crop that the model requires (aligned faces), or None. EmbedderError for an unsuitable file."""
        return aligned_face(self.path) if self.kind == "faces" else None

    def load_pair(self, device: torch.device | str = "cpu") -> PairEmbedder:
        """Load it to compare pictures with texts. Raises EmbedderError for a model without a text tower."""
        if self.kind not in ("base", "clip"):
            raise EmbedderError(
                f'"{self.name}" embeds pictures only; prompt fidelity needs a CLIP pair: a hub id, a folder or "base"'
            )
        return self._load_clip(device)

    def _load_clip(self, device: torch.device | str) -> ClipPair:
        load = load_base_clip if self.kind == "base" else load_clip
        return load(self.name, self.identity, self.path, device)


def find_embedder(name: str, base: BaseLocation) -> EmbedderLocation:
    """Find "efficientnet-lite0", "base" (the base's own CLIP), "sface", a folder, or a hub id (its cached copy first).

    Raises EmbedderError or BaseError with the reason if it is not found.
    """
    if name == EFFICIENTNET:
        return EmbedderLocation(name, "efficientnet", efficientnet_weights())
    if name == BASE:
        return EmbedderLocation(name, "base", base.part("clip").parent)
    if name == SFACE:
        return EmbedderLocation(name, "faces", _sface_on_hub())
    folder = Path(name).expanduser()
    if (folder / SFACE_FILE).is_file():
        return EmbedderLocation(name, "faces", folder / SFACE_FILE)
    if not folder.is_dir():
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise EmbedderError(
                f'"{name}" is unknown; give "{EFFICIENTNET}", "{BASE}", "{SFACE}", a folder or a hub id (owner/name)'
            )
        folder = _on_hub(name)
    return EmbedderLocation(name, _kind(name, folder), folder)


def _on_hub(name: str) -> Path:
    """The cached copy; weights that it lacks are downloaded."""
    folder = find_on_hub(name)
    if _has_weights(folder):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*HUB_FILES, WEIGHT_FILES[1]]))
    except Exception as error:
        raise EmbedderError(
            f'"{name}" is in the hub cache without its weights and could not be completed ({type(error).__name__}); '
            f"on a machine with network run: hf download {name}"
        ) from None


def _sface_on_hub() -> Path:
    try:
        file = find_on_hub(SFACE_HUB, files=[SFACE_FILE]) / SFACE_FILE
    except BaseError:
        file = None
    if file is None or not file.is_file():
        raise EmbedderError(
            f'"{SFACE}" needs {SFACE_FILE}, which is not in the hub cache and could not be downloaded; on a machine '
            f"with network run: hf download {SFACE_HUB} {SFACE_FILE}; or name a folder that holds the file"
        )
    return file


def _kind(name: str, folder: Path) -> Literal["clip", "vision"]:
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise EmbedderError(
            f'"{name}": {folder} has no readable config.json with a model_type; '
            "give the folder of a transformers checkpoint"
        ) from None
    if not _has_weights(folder):
        raise EmbedderError(f'"{name}": {folder} has none of {", ".join(WEIGHT_FILES)}; download it again')
    return "clip" if model_type == "clip" else "vision"


def _has_weights(folder: Path) -> bool:
    return any((folder / file).is_file() for file in WEIGHT_FILES)
