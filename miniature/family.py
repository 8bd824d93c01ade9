"""The packaged family as limner loads and renders it, at the settings of its own `limner.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.base import Base, find_base, load_base
from limner.config import Control, Render
from limner.embeddings import PairEmbedder, find_embedder
from limner.rendering import Conditioning, PromptEmbeddings, Recipe, Request, recommended_render, render_batch
from limner.rendering.canny import conditioning_tensor, edge_picture
from limner.rendering.controlnet import load_controlnet
from miniature.views import to_pixel_values

BATCH = {"cuda": 64, "cpu": 4}


@dataclass
class Family:
    """A packaged folder, loaded in single precision."""

    folder: Path
    base: Base
    pair: PairEmbedder
    embeddings: PromptEmbeddings

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.base.device

    @property
    def render_settings(self) -> Render:
        """The `render` table."""
        return recommended_render(self.base)

    @cached_property
    def control_settings(self) -> Control:
        """The `control` table."""
        own = dict(self.base.location.defaults.get("control", {}))
        return Control.model_validate(own)

    @cached_property
    def controlnet(self) -> Any:
        """The family's own ControlNet."""
        return load_controlnet(self.base.location.part("controlnet"), self.base)

    def recipe(self, guidance_scale: float | None = None) -> Recipe:
        """How it renders, at another guidance scale where one is given."""
        own = self.render_settings
        return Recipe(own.sampler, own.steps, own.guidance_scale if guidance_scale is None else guidance_scale)

    def render(self, prompts: Sequence[str], seeds: Sequence[int], recipe: Recipe | None = None) -> np.ndarray:
        """Pictures (N, 256, 256, 3) uint8."""
        size = self.render_settings.size
        requests = [Request(text, "", seed, 0, size) for text, seed in zip(prompts, seeds, strict=True)]
        return self._pictures(recipe or self.recipe(), requests, None)

    def render_edges(self, prompts: Sequence[str], seeds: Sequence[int], references: np.ndarray | None) -> np.ndarray:
        """Pictures at the control settings, conditioned on the edges of `references` (N, 256, 256, 3) if given."""
        own = self.control_settings
        recipe = Recipe(own.sampler, own.steps, own.guidance_scale)
        names = [f"{index}" if references is not None else "" for index in range(len(prompts))]
        scale, size = own.conditioning_scale[0], self.render_settings.size
        requests = [
            Request(text, own.negative_prompt, seed, 0, size, name, scale)
            for text, seed, name in zip(prompts, seeds, names, strict=True)
        ]
        if references is None:
            return self._pictures(recipe, requests, None)
        edges = [conditioning_tensor(edge_picture(picture, own.canny_low, own.canny_high)) for picture in references]
        conditioning = Conditioning(self.controlnet, dict(zip(names, edges, strict=True)))
        return self._pictures(recipe, requests, conditioning)

    def _pictures(self, recipe: Recipe, requests: list[Request], conditioning: Conditioning | None) -> np.ndarray:
        together = BATCH["cuda" if self.device.type == "cuda" else "cpu"]
        parts = [
            render_batch(
                self.base, recipe, requests[start : start + together], self.embeddings, conditioning, check=False
            )[0]
            for start in range(0, len(requests), together)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def reconstruct(self, pictures: np.ndarray) -> np.ndarray:
        """What the VAE makes of pictures: decoded means, float (N, H, W, 3) in 8-bit levels, not rounded."""
        together = BATCH["cuda" if self.device.type == "cuda" else "cpu"]
        parts = []
        for start in range(0, len(pictures), together):
            values = to_pixel_values(torch.from_numpy(pictures[start : start + together]).to(self.device))
            decoded = self.base.vae.decode(self.base.vae.encode(values).latent_dist.mode()).sample
            parts.append(_levels(decoded))
        return np.concatenate(parts)


def _levels(pixel_values: Tensor) -> np.ndarray:
    levels = (pixel_values.float().clamp(-1, 1) + 1) * 127.5
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def to_uint8(levels: np.ndarray) -> np.ndarray:
    """Levels as a picture file holds them."""
    return levels.round().astype(np.uint8)


def load_family(folder: Path, device: torch.device) -> Family:
    """Load every component of a packaged folder, as limner does."""
    location = find_base(str(folder))
    base = load_base(location, device=device)
    pair = find_embedder("base", location).load_pair(device)
    return Family(folder, base, pair, PromptEmbeddings(base))
