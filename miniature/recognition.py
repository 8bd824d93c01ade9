"""Breed, style and species named by the CLIP pair, by comparing pictures with prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from miniature.captions import NEUTRAL, PHRASES, token_rows
from miniature.settings import CLIP_PX
from miniature.styles import STYLE_NAMES

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to unit embeddings (N, D)."""


def style_prompts(style: str, subject: str) -> list[str]:
    """Two or three plain prompts for a subject in a style."""
    phrases = PHRASES[style]
    if style == "photo":
        return [f"{NEUTRAL[0]} {subject}", f"photo of {subject}"]
    before = [f"{phrase} {subject}" for phrase in phrases.before[:2]]
    after = [f"{NEUTRAL[0]} {subject}{phrases.after[0]}"] if phrases.after else []
    return before + after


def embed_pictures(clip: CLIPModel, pixel_values: Tensor) -> Tensor:
    """Unit embeddings of pictures (B, 3, side, side) in [-1, 1]."""
    if pixel_values.shape[-1] != CLIP_PX:
        pixel_values = F.interpolate(pixel_values, (CLIP_PX, CLIP_PX), mode="bilinear", antialias=True)
    pooled = clip.vision_model(pixel_values=pixel_values).pooler_output
    return F.normalize(clip.visual_projection(pooled).float(), dim=-1)


def embed_tokens(clip: CLIPModel, token_ids: Tensor) -> Tensor:
    """Unit embeddings of token rows (B, 77)."""
    pooled = clip.text_model(input_ids=token_ids).pooler_output
    return F.normalize(clip.text_projection(pooled).float(), dim=-1)


@dataclass(frozen=True)
class NameTable:
    """Text embeddings of every breed and species in every style, of unit norm."""

    breeds: Tensor  # (styles, breeds, D)
    species: Tensor  # (styles, 2, D): cat, dog
    species_of_breed: Tensor  # (breeds,)

    @classmethod
    def of(cls, embed_texts: EmbedTexts, breeds: list[tuple[str, str]]) -> NameTable:
        """The table for (species, breed) pairs."""
        names = _table(embed_texts, [f"{breed} {species} face" for species, breed in breeds])
        kinds = [int(species == "dog") for species, _ in breeds]
        return cls(names, _table(embed_texts, ["cat face", "dog face"]), torch.tensor(kinds, device=names.device))

    def correct(self, embeddings: Tensor, style: int, breed: Tensor) -> dict[str, np.ndarray]:
        """For pictures (B, D) of known style and breed (B,): is each thing recognised? Boolean arrays (B,)."""
        scores = embeddings @ self.breeds[style].T  # (B, breeds)
        rank = (scores > scores.gather(1, breed[:, None])).sum(1)
        of_style = torch.einsum("bd,sbd->bs", embeddings, self.species[:, self.species_of_breed[breed]])
        named = (embeddings @ self.species[style].T).argmax(1)
        found = {"breed_rank1": rank < 1, "breed_rank5": rank < 5}
        found |= {"style": of_style.argmax(1) == style, "species": named == self.species_of_breed[breed]}
        return {name: value.cpu().numpy() for name, value in found.items()}


def _table(embed_texts: EmbedTexts, subjects: list[str]) -> Tensor:
    rows = []
    for style in STYLE_NAMES:
        prompts = [style_prompts(style, subject) for subject in subjects]
        embeddings = embed_texts([text for texts in prompts for text in texts])
        rows.append(F.normalize(embeddings.view(len(subjects), -1, embeddings.shape[-1]).mean(1), dim=-1))
    return torch.stack(rows)


class Recogniser:
    """A name table of a pair in training, and that pair's eyes."""

    def __init__(self, clip: CLIPModel, tokenizer: Any, breeds: list[tuple[str, str]], device: str) -> None:
        self._clip = clip

        @torch.no_grad()
        def embed_texts(texts: Sequence[str]) -> Tensor:
            return embed_tokens(clip, torch.from_numpy(token_rows(tokenizer, list(texts))).to(device))

        self.names = NameTable.of(embed_texts, breeds)

    @torch.no_grad()
    def correct(self, pixel_values: Tensor, style: int, breed: Tensor) -> dict[str, np.ndarray]:
        """For pictures of known style and breed: is each thing recognised? Boolean arrays (B,)."""
        return self.names.correct(embed_pictures(self._clip, pixel_values), style, breed)


class StyleNamer:
    """Names the style of pictures of one kind of subject, through a pair that embeds texts itself."""

    def __init__(self, embed_texts: EmbedTexts, subject: str) -> None:
        rows = [embed_texts(style_prompts(style, subject)).mean(0) for style in STYLE_NAMES]
        self._styles = F.normalize(torch.stack(rows), dim=-1)  # (styles, D)

    def name(self, pictures: Tensor) -> list[str]:
        """The nearest style of each picture embedding (N, D)."""
        return [STYLE_NAMES[index] for index in (pictures @ self._styles.T).argmax(1).tolist()]


def shares(rows: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Mean of each entry over all rows."""
    return {name: round(float(np.concatenate([row[name] for row in rows]).mean()), 4) for name in rows[0]}
