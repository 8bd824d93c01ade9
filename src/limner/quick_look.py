"""A quick look at one adapter: one prompt, one seed, one picture."""

from __future__ import annotations

from pathlib import Path

import torch

from limner.adapters import load_trained
from limner.adapters.exchange import ForeignLora, load_foreign
from limner.adapters.exchange.imported import merged_adapter
from limner.artifacts import MANIFEST, AdapterFolder, require_folder, write_whole
from limner.base import find_base, load_base
from limner.base.devices import rendering_dtype
from limner.base.find import find_vae
from limner.config import BaseSettings, Study
from limner.errors import AdapterError, BaseError, PromptError
from limner.opening import study_of_run
from limner.rendering import render_prompt


def quick_look(
    folder: Path,
    prompt: str,
    seed: int,
    *,
    strength: float = 1.0,
    base: str = "",
    out: Path | None = None,
    device: torch.device | None = None,
) -> Path:
    """Render `prompt` with the adapter in `folder`, as its run's study renders; returns the picture's path.

    `folder` may also be another program's LoRA, a file or a folder around one, with `base` given; what is no low-rank
    update (DoRA, OFT, full differences) is merged into the base for it.

    The base and the subject come from the run's lock file (two folders up) unless `base` is given. Raises
    AdapterError for a folder without an adapter, PromptError without a prompt or for an unknown placeholder,
    BaseError for an unknown base.
    """
    if not prompt:
        raise PromptError('a quick look needs a prompt: --prompt "a photo of {subject}"')
    is_trained = (folder / MANIFEST).is_file()
    foreign = None if is_trained else _read_foreign(folder)
    study = study_of_run(folder)
    model = base or (study.base.model if study else "")
    if not model:
        raise BaseError(f"{folder} is not in a run's folder, so its base is unknown; name it with --base")
    text, path = _filled(prompt, study), _picture_path(folder, seed, out)
    settings = study.base if study else BaseSettings()
    location = find_base(model, settings.revision if model == settings.model else "")
    vae = find_vae(settings.vae) if settings.vae else None
    if foreign is None:
        adapter = load_trained(AdapterFolder(folder))
    else:
        adapter = merged_adapter(foreign, location, vae, strength) if foreign.changes else foreign.adapter()
    device = device or torch.device("cpu")
    loaded = load_base(
        location,
        device=device,
        dtype=rendering_dtype(study.render.precision if study else "auto", device),
        vae=vae,
        clip_skip=settings.clip_skip,
        safety_checker=settings.safety_checker,
    )
    asked = study.render if study else None
    write_whole(path, render_prompt(loaded, adapter, text, seed, strength=strength, settings=asked))
    return path


def _read_foreign(path: Path) -> ForeignLora:
    """Another program's LoRA."""
    if path.suffix != ".safetensors" and not any(path.glob("*.safetensors")):
        raise AdapterError(f"{path} is neither a study file (.toml), the folder of a trained adapter nor a LoRA's file")
    return load_foreign(path)


def _filled(prompt: str, study: Study | None) -> str:
    try:
        return study.subject.fill(prompt) if study else prompt.format()
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = (
            "{subject}, {identifier} and {class_noun}"
            if study
            else "none, because there is no run folder that names the subject"
        )
        raise PromptError(f'prompt "{prompt}": unknown placeholder ({error}); there are {known}') from None


def _picture_path(folder: Path, seed: int, out: Path | None) -> Path:
    own = folder.resolve()
    name = f"{own.stem if own.is_file() else own.name}-{seed}.png"
    path = Path(name) if out is None else out / name if out.is_dir() else out
    require_folder(path.parent)
    return path
