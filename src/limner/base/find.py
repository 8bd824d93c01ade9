"""Find a base model and read its description, without loading a weight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from limner.artifacts import canonical_json, hash_bytes, hash_file, hash_files
from limner.base.inspect import require_sd15
from limner.base.single_file.configuration import Configuration, configuration_of_file, configuration_of_folder
from limner.base.weights.header import read_header
from limner.errors import BaseError

MINIATURE = "miniature"
MINIATURE_FOLDER = Path(__file__).parent / MINIATURE
RECOMMENDED = "limner.json"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SAFETY_PARTS = ("safety_checker", "feature_extractor")
HUB_FILES = ["*.json", "*.txt", "*.safetensors"]
PICKLED = (".ckpt", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class BaseLocation:
    """A base on this machine: a diffusers folder or a single .safetensors file in the original layout."""

    name: str
    path: Path
    kind: Literal["folder", "file"]

    @cached_property
    def recommended(self) -> dict[str, Any]:
        """What the base's `limner.json` says; empty when it has none."""
        file = self.path / RECOMMENDED
        if self.kind == "file" or not file.is_file():
            return {}
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BaseError(f"{file} is not JSON ({error}); correct or remove it") from None

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration: a folder's files, or what a single file's header holds."""
        if self.kind == "folder":
            return configuration_of_folder(self.path)
        report = require_sd15(self.path)
        return configuration_of_file(read_header(self.path).metadata, report.prediction_type)

    @property
    def defaults(self) -> dict[str, Any]:
        """The study settings that the base recommends."""
        return self.recommended.get("defaults", {})

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the content of all weights and configurations, independent of their location."""
        if self.kind == "file":
            return hash_file(self.path)
        files = [path for part in PARTS for path in (self.path / part).rglob("*") if path.is_file()]
        return _hash_below(self.path, files)

    @property
    def has_safety_checker(self) -> bool:
        """Whether the base includes a safety checker."""
        return self.kind == "folder" and all((self.path / part).is_dir() for part in SAFETY_PARTS)

    def weight_files(self, part: str) -> list[Path]:
        """The weight files of a part; for a single file, that file."""
        return [self.path] if self.kind == "file" else sorted((self.path / part).glob("*.safetensors"))

    def part(self, name: str) -> Path:
        """Folder of a part that the base may include (`controlnet`, `clip`)."""
        folder = self.path / name
        if self.kind == "file" or not folder.is_dir():
            raise BaseError(f'the base "{self.name}" includes no {name}; name one in the study')
        return folder


def find_base(model: str, revision: str = "") -> BaseLocation:
    """Find `model`: "miniature", a diffusers folder, a .safetensors file, or a hub id (its cached copy first).

    Raises BaseError if it is missing, damaged, or of another family than Stable Diffusion 1.5.
    """
    if model == MINIATURE:
        return _checked_folder(model, MINIATURE_FOLDER)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked_folder(model, path)
    if path.suffix in PICKLED:
        raise BaseError(
            f"{path} is a pickle, which can run code when it is read; convert it first: "
            f"limner convert {path} {path.with_suffix('.safetensors').name} --allow-pickle"
        )
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise BaseError(
                f"there is no file {path}; base.model names a .safetensors file that exists, a folder or a hub id"
            )
        require_sd15(path)
        return BaseLocation(model, path, "file")
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _checked_folder(model, find_on_hub(model, revision))
    raise BaseError(
        f'base.model "{model}" is unknown: give "miniature", a diffusers folder, a .safetensors file '
        "or a hub id (owner/name)"
    )


def find_controlnet(model: str, base: BaseLocation) -> Path:
    """Folder of a ControlNet: "base" for the one that the base includes, a folder, or a hub id."""
    if model == "base":
        return base.part("controlnet")
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return find_on_hub(model)
    raise BaseError(f'control.model "{model}" is unknown: give "base", a folder or a hub id (owner/name)')


def find_vae(vae: str) -> Path:
    """A VAE's .safetensors file or diffusers folder: as given, or a hub id's cached copy."""
    path = Path(vae).expanduser()
    if path.is_dir() or (path.suffix == ".safetensors" and path.is_file()):
        return path
    if path.suffix != ".safetensors" and vae.count("/") == 1 and not vae.startswith((".", "/", "~")):
        return find_on_hub(vae)
    raise BaseError(f'base.vae "{vae}" does not exist: give a .safetensors file, a diffusers folder or a hub id')


def hash_of_part(path: Path) -> str:
    """SHA-256 over the content of one part of a base: a file, or all files of a folder."""
    if path.is_file():
        return hash_file(path)
    return _hash_below(path, [file for file in path.rglob("*") if file.is_file()])


def _hash_below(folder: Path, files: list[Path]) -> str:
    files = sorted(files)
    names = [file.relative_to(folder).as_posix() for file in files]
    return hash_bytes(canonical_json(dict(zip(names, hash_files(files), strict=True))))


def find_on_hub(model: str, revision: str = "", files: list[str] | None = None) -> Path:
    """Folder of a hub id's cached copy, downloaded if there is none and the network is available."""
    from huggingface_hub import snapshot_download

    patterns = files or HUB_FILES
    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=patterns, local_files_only=True))
    except Exception:
        pass
    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=patterns))
    except Exception as error:
        raise BaseError(
            f'"{model}" is not in the hub cache and could not be downloaded ({type(error).__name__}); '
            f"on a machine with network run: hf download {model}"
        ) from None


def _checked_folder(name: str, folder: Path) -> BaseLocation:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing and (folder / "model_index.json").is_file():
        require_sd15(folder)
    if missing:
        raise BaseError(
            f"{folder} is not a Stable Diffusion folder: it has no {', '.join(missing)}; "
            "base.model needs the diffusers layout"
        )
    require_sd15(folder)
    return BaseLocation(name, folder, "folder")
