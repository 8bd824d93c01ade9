"""Every setting limner has, once, with a sentence each: the settings reference is made from here.

The defaults suit SD 1.5; a base's `limner.json` may lay others over them (`study.resolve_study`).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SamplerName = Literal["ddim", "unipc", "dpm++", "euler"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PLACEHOLDERS = ("subject", "identifier", "class_noun")
CAPTION = "caption"  # a placeholder of instance prompts alone
SQRT_RULE_ALPHA = 4.0  # makes the scale 1 at rank 16
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 _.+-]*$"


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _known_placeholders(prompt: str, names: tuple[str, ...] = PLACEHOLDERS) -> str:
    try:
        prompt.format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(f"{{{name}}}" for name in names)
        raise ValueError(f"unknown placeholder ({error}); there are {known}") from None
    return prompt


def _differing_names(rows: list[Any]) -> list[Any]:
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two rows are called "{name}"; names must differ')
    return rows


Integers = Annotated[list[int], BeforeValidator(_as_list), Field(min_length=1)]
Numbers = Annotated[list[float], BeforeValidator(_as_list), Field(min_length=1)]
Prompt = Annotated[str, Field(min_length=1), AfterValidator(_known_placeholders)]
InstancePrompt = Annotated[
    str, Field(min_length=1), AfterValidator(lambda prompt: _known_placeholders(prompt, (*PLACEHOLDERS, CAPTION)))
]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
BatchSize = AtLeastOne | Literal["auto"]
NotNegative = Annotated[int, Field(ge=0)]
SizePx = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]


class Section(BaseModel):
    """A table of the study file: unknown keys are errors, values cannot be changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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


class Prepare(Section):
    """How photos become square crops."""

    size_px: SizePx = 512
    """Side of the square crops in pixels."""
    focus: Literal["auto", "face", "cat", "dog", "saliency", "center"] = "auto"
    """Where to crop: around the head of a person, a cat or a dog that recurs in the photos ("auto"), or of one of these
    kinds alone, and where there is none around what stands out; around what stands out ("saliency"); or the centre.
    What `focus.toml` beside the photos says of a photo overrules it."""
    zoom: Literal["picture", "head"] = "picture"
    """"picture" keeps the largest square; "head" crops closer, so that a found head fills about 60% of the side."""
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


CHOOSING_PROMPTS = (
    "a photo of {subject}",
    "a close up photo of {subject}",
    "a pencil sketch of {subject}",
    "a watercolour of {subject}",
)


class Validation(Section):
    """Pictures made while training, to watch it, and which step's weights are delivered."""

    prompt: Prompt = "a photo of {subject}"
    """Prompt that is rendered."""
    prompts: list[Prompt] = []
    """Several prompts instead of the one. Left out with `keep = "best"`: two photos, a pencil sketch, a watercolour."""
    every_steps: NotNegative = 0
    """Render after every this many steps; 0 never."""
    count: AtLeastOne = 2
    """Pictures of each prompt each time."""
    seed: int = 0
    """Seed of the pictures, the same each time."""
    score: bool = False
    """Score the pictures, and the loss on held-out photos at fixed noise levels: the report shows curves over steps."""
    keep: Literal["last", "best"] = "last"
    """"last" delivers the last step's weights; "best" those of the validated step that is best by likeness and prompt
    fidelity, of those that copy no more than `copying_limit` allows (docs/choosing.md)."""
    likeness_weight: Share = 0.5
    """"best": the weight of likeness, as a share of the span from the base's renders to real photos. Prompt fidelity,
    as a share of the base's own, has the rest."""
    copying_limit: Share = 0.1
    """"best": the largest share of pictures that may be nearer to a training photo than any two photos are."""
    neighbours: NotNegative = 1
    """"best": a step is judged by the mean over itself and this many validations before and after it."""
    patience: NotNegative = 0
    """"best": stop training after this many validations in a row without a better step; 0 trains to the end."""

    @model_validator(mode="after")
    def _can_choose(self) -> Validation:
        if self.scored and not self.every_steps:
            raise ValueError("scoring and choosing need validations; set every_steps to a tenth of the steps, say")
        if self.keep == "best" and len(self.rendered_prompts) < 2:
            raise ValueError('keep = "best" weighs prompt fidelity and needs two prompts or more; add to prompts')
        if self.patience and self.keep != "best":
            raise ValueError('patience stops by the rule of keep = "best"; set that too, or patience to 0')
        return self

    @property
    def scored(self) -> bool:
        """Whether the pictures are scored."""
        return self.score or self.keep == "best"

    @property
    def rendered_prompts(self) -> list[str]:
        """The prompts, each of which is rendered `count` times."""
        if self.prompts:
            return self.prompts
        return list(CHOOSING_PROMPTS) if self.keep == "best" else [self.prompt]


class VariantSettings(Section):
    """What every way of training has in common."""

    name: Name | None = None
    """Name of the variant; the method where left out."""
    steps: AtLeastOne = 800
    """Optimizer steps."""
    learning_rate: Positive = 2e-6
    """Peak learning rate."""
    instance_prompt: InstancePrompt = "a photo of {subject}"
    """What the subject's photos are trained with. `{caption}` in it stands for each photo's own caption; where it has
    none it is left out, and alone it then reads as the subject."""
    prior_preservation: bool = False
    """Train on class images too, so that the class is not forgotten."""
    prior_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the class images' loss."""
    text_encoder: bool = False
    """Train the text encoder as well."""
    batch_size: AtLeastOne = 1
    """Instance images a step; with prior preservation as many class images are added."""
    gradient_accumulation_steps: AtLeastOne = 1
    """Batches that are summed up before one optimizer step."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate after warm-up: constant, or falling to zero at the last step."""
    warmup_steps: NotNegative = 0
    """Steps over which the learning rate rises from zero."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW, or AdamW with 8-bit moments (a quarter of their memory)."""
    master_weights: Literal["exact", "none"] = "exact"
    """"exact": trained weights are fp32, whatever the step computes in. "none": whole weights of a bf16 step are kept
    in bf16 alone, rounded at random so that small steps add up on average; 2 bytes a weight less."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    epsilon: Positive = 1e-8
    """AdamW's epsilon."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's weight decay."""
    max_gradient_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this norm; 0 leaves them."""
    snr_gamma: Positive | None = None
    """Min-SNR weighting (Hang et al. 2023) with this gamma, usually 5; left out means none."""
    noise_offset: Annotated[float, Field(ge=0)] = 0.0
    """Adds this much of one random value a channel to the noise."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Keep an exponential moving average of the trained weights and deliver it; left out means none."""
    flip: bool = False
    """Mirror half of the photos at random (not for faces that should stay as they are)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, slower."""
    precision: Precision = "auto"
    """Arithmetic of the step; "auto" is bf16 on a GPU that has it and fp32 elsewhere. What is learnt is kept in fp32
    whatever this is, unless `master_weights` says otherwise."""
    training_seeds: Integers = [0]
    """One adapter is trained for each seed."""
    start_from: str = ""
    """Name of another variant to start from (a LoRA on top of a DreamBooth result, say)."""
    validation: Validation = Validation()
    """Pictures made while training, and which step's weights are delivered."""
    checkpoint_every_steps: NotNegative = 100
    """Write a resumable state every this many steps; 0 only when interrupted."""
    log_to: list[Literal["tensorboard", "wandb"]] = []
    """Beside the JSON lines that are always written."""


class FullVariant(VariantSettings):
    """DreamBooth: all weights of the UNet and, unless said, of the text encoder (Ruiz et al. 2023)."""

    method: Literal["full"]
    """"full"."""
    text_encoder: bool = True
    """Train the text encoder as well."""
    prior_preservation: bool = True
    """Train on class images too, so that the class is not forgotten."""
    checkpoint_every_steps: NotNegative = 400
    """Write a resumable state every this many steps (for SD 1.5 about 12 GB, two are kept); 0 only when interrupted."""


class LoraVariant(VariantSettings):
    """Low-rank updates (Hu et al. 2022); a list of ranks makes one variant of each."""

    method: Literal["lora"]
    """"lora"."""
    steps: AtLeastOne = 500
    """Optimizer steps."""
    learning_rate: Positive = 1e-4
    """Peak learning rate."""
    rank: Integers = [16]
    """Rank of the updates, or a list of ranks."""
    alpha: Positive | None = None
    """Strength: the update is scaled by alpha / rank. Left out it is the rank (4 under the rule "sqrt")."""
    alpha_rule: Literal["rank", "sqrt"] = "rank"
    """"rank": the scale is alpha / rank. "sqrt": it is alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732)."""
    targets: Literal["attention", "transformer", "all"] = "attention"
    """Which layers: attention projections, whole transformer blocks, or convolutions too."""
    unet: bool = True
    """Give the UNet updates."""

    @model_validator(mode="after")
    def _trains_something(self) -> LoraVariant:
        if not (self.unet or self.text_encoder):
            raise ValueError("unet and text_encoder are both false, so nothing would be trained; set one to true")
        if any(rank < 1 for rank in self.rank):
            raise ValueError(f"rank {min(self.rank)} is not possible; ranks start at 1")
        return self

    def alpha_for(self, rank: int) -> float:
        """The alpha that is stored for `rank`: an update's scale is always (stored alpha) / rank."""
        if self.alpha_rule == "sqrt":
            return (SQRT_RULE_ALPHA if self.alpha is None else self.alpha) * math.sqrt(rank)
        return float(rank) if self.alpha is None else self.alpha


Variant = Annotated[FullVariant | LoraVariant, Field(discriminator="method")]


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
    """Arithmetic; "auto" is fp16 on a GPU and fp32 elsewhere."""
    prompts: Annotated[list[RenderPrompt], AfterValidator(_differing_names)] = []
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
    references: Annotated[list[ControlReference], AfterValidator(_differing_names)] = []
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
    """What likeness compares: squares around heads, or whole pictures (for things without a head, and as DreamBench
    does it)."""
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
