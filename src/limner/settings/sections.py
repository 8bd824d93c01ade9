"""Every setting beside the variants', once, with a sentence each: the settings reference is made from here.

The defaults suit SD 1.5; a base's `limner.json` may lay others over them (`study.resolve_study`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from limner.settings.values import (
    CAPTION,
    AtLeastOne,
    BatchSize,
    Integers,
    Name,
    NotNegative,
    Numbers,
    Positive,
    Precision,
    Prompt,
    SamplerName,
    Section,
    SizePx,
    differing_names,
)


class Subject(Section):
    """Whom or what the model is taught."""

    photos: Path
    """Folder of photos of the subject, relative to the study file."""
    class_noun: Annotated[str, Field(min_length=1)]
    """What the subject is one of, for example "woman face" or "cat". Left out, it is taken with the identifier from
    photos in kohya's folders, such as `10_sks woman`."""
    identifier: Annotated[str, Field(min_length=1)] = "sks"
    """A rare word that will come to mean this subject."""
    consent: str = ""
    """Free text: who agreed to the use of these photos. Kept in the lock file and in the report."""

    @property
    def phrase(self) -> str:
        """What `{subject}` stands for: identifier and class noun."""
        return f"{self.identifier} {self.class_noun}"

    def fill_captioned(self, prompt: str, caption: str) -> str:
        """The same for a photo's instance prompt, which may hold `{caption}`, and for a caption with placeholders."""
        if f"{{{CAPTION}}}" not in prompt:
            return self.fill(prompt)
        for name, words in (("subject", self.phrase), ("identifier", self.identifier), ("class_noun", self.class_noun)):
            caption = caption.replace(f"{{{name}}}", words)
        filled = prompt.format(
            subject=self.phrase, identifier=self.identifier, class_noun=self.class_noun, caption=caption
        )
        return (filled if caption else re.sub(r"\s+", " ", filled).strip(" ,;:")) or self.phrase

    def fill(self, prompt: str, *, as_class: bool = False) -> str:
        """Replace the placeholders of `prompt`; `as_class` reads the subject as the class noun (for the base)."""
        identifier = "" if as_class else self.identifier
        subject = self.class_noun if as_class else self.phrase
        filled = prompt.format(subject=subject, identifier=identifier, class_noun=self.class_noun)
        return re.sub(r" {2,}", " ", filled).strip() if as_class else filled


class BaseSettings(Section):
    """The Stable Diffusion model that everything starts from."""

    model: Annotated[str, Field(min_length=1)] = "miniature"
    """"miniature" (ships with limner), a hub id, a diffusers folder, or a .safetensors file."""
    vae: str = ""
    """Another VAE: a hub id, folder or file; empty keeps the base's own."""
    revision: str = ""
    """Branch, tag or commit of a hub id."""
    clip_skip: NotNegative = 0
    """How many of the text encoder's last layers to leave out."""
    safety_checker: bool = True
    """Run the base's safety checker on renders where the base has one; the report records its state."""


class AdapterFile(Section):
    """A LoRA that was made elsewhere. It is rendered and measured beside the variants, which may start from it."""

    name: Name
    """What its column is called, and what `start_from` may name."""
    file: Path
    """Its file or folder, relative to the study file: kohya's keys, diffusers' or PEFT's, or a run's adapter."""
    strength: Positive = 1.0
    """How strongly it acts; 1 is as it was trained."""
    merged: bool = False
    """Put it into the base's weights, so that full training or a LoRA of its own can be trained on top of it. What is
    no low-rank update (DoRA, OFT, full differences) can only be used so."""


class Prepare(Section):
    """How photos become crops."""

    size_px: SizePx = 512
    """Side of the square crops in pixels; other crops have at most the square's area."""
    shape: Literal["square", "buckets"] = "square"
    """"square" cuts squares; "buckets" leaves photos near the shape they have: each is cut to the shape nearest to its
    own of a few whose sides are multiples of 64 px, none more than twice the other. A training step is of one shape."""
    focus: Literal["auto", "face", "cat", "dog", "saliency", "center"] = "auto"
    """Where to crop: around the head of a person, a cat or a dog that recurs in the photos ("auto"), or of one of these
    kinds alone, and where there is none around what stands out; around what stands out ("saliency"); or the centre.
    What `focus.toml` beside the photos says of a photo overrules it."""
    zoom: Literal["picture", "head"] = "picture"
    """"picture" keeps the largest crop; "head" crops closer, so that a found head fills about 60% of the crop's (short)
    side."""
    held_out: Literal["auto"] | NotNegative = "auto"
    """How many photos no training sees, so that likeness is measured against them (four or more are needed for that).
    "auto" is one in five from 20 photos on, and none of fewer. Which ones follows from their content."""
    most_megapixels: Annotated[float, Field(gt=0, le=200)] = 50.0
    """Photos of more are left out."""
    keep: list[str] = []
    """Names of photos that are used although they are too small, or too large, to be."""


class ClassImages(Section):
    """Pictures of the class for prior preservation, made by the base, shared by all variants."""

    count: NotNegative = 500
    """How many; pictures that exist are kept and the rest is topped up."""
    prompt: Prompt = "a photo of {class_noun}"
    """Class prompt: what the base is asked for and what these pictures are trained with."""
    folder: Path | None = None
    """Your own folder of class pictures instead; `count` of them are used."""
    sampler: SamplerName = "ddim"
    """Sampler they are rendered with."""
    steps: AtLeastOne = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance scale."""
    negative_prompt: str = ""
    """What the pictures should not show."""
    seed: int = 0
    """Seed of the whole set; picture N depends on (seed, N) only."""
    batch_size: BatchSize = "auto"
    """How many are rendered at once; does not change what they show. "auto" is 16 of 512x512 on a GPU (fewer larger
    ones, and 4 with less than 10 GiB) and 4 elsewhere."""


class RenderPrompt(Section):
    """One row of the comparison table."""

    name: Name
    """Name of the row and of its folder."""
    prompt: Prompt
    """May use {subject}, {identifier} and {class_noun}."""
    negative_prompt: str | None = None
    """Instead of the one all prompts share."""
    size: tuple[SizePx, SizePx] | None = None
    """Width and height instead of the ones all prompts share."""


class Render(Section):
    """Pictures of every prompt, seed and variant, and of the untouched base."""

    sampler: SamplerName = "ddim"
    """Sampler."""
    steps: AtLeastOne = 35
    """Denoising steps."""
    guidance_scale: float = 7.0
    """Classifier-free guidance scale."""
    seeds: Integers = [42]
    """Every prompt is rendered with every seed; each cell is seeded by itself."""
    images_per_seed: AtLeastOne = 1
    """Pictures a seed."""
    size: tuple[SizePx, SizePx] = (512, 512)
    """Width and height in pixels; must divide by 8."""
    negative_prompt: str = ""
    """What no picture should show."""
    lora_scales: Numbers = [1.0]
    """Strengths at which LoRA variants are rendered; others than 1 make columns of their own."""
    batch_size: BatchSize = "auto"
    """How many are rendered at once, references too, the same prompts of several LoRA variants together; does not
    change what they show. "auto" is 16 of 512x512 on a GPU (fewer larger ones, and 4 with less than 10 GiB) and 4
    elsewhere."""
    precision: Precision = "auto"
    """Arithmetic; "auto" is fp16 on a GPU and fp32 elsewhere, on a processor with AMX with products in bf16."""
    prompts: Annotated[list[RenderPrompt], AfterValidator(differing_names)] = []
    """The rows of the table."""


class ControlReference(Section):
    """A picture whose edges condition the renders."""

    name: Name
    """Name of the row and of its folder."""
    image: Path
    """The picture, relative to the study file."""
    size: tuple[int, int] | None = None
    """Width and height; rounded down to a multiple of 8 with a notice. Left out: the longer side is the base's native
    size and the picture's shape is kept."""
    edges: Literal["canny", "given"] = "canny"
    """How they come: "canny" finds them in the picture; with "given" the picture is the edge map, white on black."""
    prompt: Prompt | None = None
    """Instead of the one all references share."""


class Control(Section):
    """Renders conditioned on the edges of pictures, through ControlNet-canny (Zhang et al. 2023)."""

    model: str = "lllyasviel/sd-controlnet-canny"
    """Hub id or folder; the miniature brings its own."""
    prompt: Prompt = "portrait of {subject}"
    """Prompt of all references."""
    negative_prompt: str = ""
    """What no picture should show."""
    sampler: SamplerName = "unipc"
    """Sampler."""
    steps: AtLeastOne = 35
    """Denoising steps."""
    guidance_scale: float = 9.0
    """Classifier-free guidance scale."""
    seeds: Integers = [0]
    """Every reference is rendered with every seed."""
    conditioning_scale: Numbers = [1.0]
    """How strongly the edges condition; several make several cells."""
    canny_low: Annotated[int, Field(ge=0, le=255)] = 100
    """Canny's lower threshold."""
    canny_high: Annotated[int, Field(ge=0, le=255)] = 200
    """Canny's upper threshold."""
    references: Annotated[list[ControlReference], AfterValidator(differing_names)] = []
    """The pictures."""


class Memory(Section):
    """How much of a GPU's memory may be used, and what is done to keep within it."""

    budget_gib: Literal["auto"] | Positive = "auto"
    """Memory of the card in GiB, such as 6, 8, 12, 16 or 24; "auto" is what the GPU has (no limit without one).
    Settings that the study leaves out are chosen so that every stage fits: the lock file says "memory" beside them."""
    offload: bool = False
    """Parts of the base wait in the processor's memory while they have nothing to do."""
    vae_batch_size: AtLeastOne = 4
    """Pictures that the VAE encodes or decodes at once."""


class Measure(Section):
    """Which models score the renders."""

    likeness: list[str] = ["facebook/dino-vits16", "facebook/dinov2-small", "openai/clip-vit-base-patch32"]
    """Image embeddings that compare renders with the photos: hub ids, folders, "efficientnet-lite0", "base" for the
    base's own CLIP, or "sface" for people's faces. Those that are not there are named and left out."""
    crop: Literal["head", "whole"] = "head"
    """What likeness compares: heads, cut out of photos and renders in the same way (whole pictures where most photos
    show no head), or whole pictures throughout, as DreamBench does."""
    others: Path | None = None
    """Folder of seven or more real pictures of others of the class, relative to the study file: among them it is
    measured whether an embedding knows the subject under a prompt's style. Left out: class images, or the base's
    renders."""
    prompt_fidelity: str = "openai/clip-vit-base-patch32"
    """CLIP pair that compares renders with their prompts: hub id, folder, or "base" for the base's own."""


class Report(Section):
    """How the report is written."""

    language: Literal["en", "ru", "both"] = "en"
    """Language of the conclusions and of what the scores mean: English, Russian, or both. All else is English."""
