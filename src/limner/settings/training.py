"""The settings that all ways of teaching share; what is one method's alone stands in its module in `methods/`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from limner.settings.optimizer import OptimizerTable, default_optimizer, read_optimizer, with_optimizer_table
from limner.settings.values import (
    AtLeastOne,
    InstancePrompt,
    Integers,
    Name,
    NotNegative,
    Positive,
    Precision,
    Prompt,
    Section,
    Share,
)

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
    """"best": the exponent of likeness, as a share of the span from the base's renders to real photos, in the product
    with prompt fidelity, as a share of the base's own, which has the rest."""
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
    """What every way of teaching has in common."""

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
    text_encoder_learning_rate: Positive | None = None
    """Peak learning rate of the text encoder where it is trained; left out means that of the rest."""
    optimizer: SerializeAsAny[Annotated[OptimizerTable, PlainValidator(read_optimizer)]] = Field(
        default_factory=default_optimizer
    )
    """An optimizer's name, or a table of its name and settings (below); "adamw8bit" has 8-bit moments, a quarter of
    their memory. `betas`, `epsilon` and `weight_decay` may also stand in the variant."""
    master_weights: Literal["exact", "none"] = "exact"
    """"exact": trained weights are fp32, whatever the step computes in. "none": whole weights of a bf16 step are kept
    in bf16 alone, rounded at random so that small steps add up on average; 2 bytes a weight less."""
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
    """Arithmetic of the step; "auto" is bf16 on a GPU that has it and fp32 elsewhere, on a processor with AMX with
    products in bf16. What is learnt is kept in fp32 whatever this is, unless `master_weights` says otherwise."""
    training_seeds: Integers = [0]
    """One adapter is trained for each seed."""
    start_from: str = ""
    """Another result to start from: the name of a variant above or of one of `[[adapters]]` (a LoRA on top of a
    DreamBooth result, say), or a LoRA's file, which is told by its ending .safetensors or a slash in it."""
    validation: Validation = Validation()
    """Pictures made while training, and which step's weights are delivered."""
    checkpoint_every_steps: NotNegative = 100
    """Write a resumable state every this many steps; 0 only when interrupted."""
    log_to: list[Literal["tensorboard", "wandb"]] = []
    """Beside the JSON lines that are always written."""

    @model_validator(mode="before")
    @classmethod
    def _optimizer_in_its_table(cls, variant: Any) -> Any:
        return with_optimizer_table(variant)

    @model_validator(mode="after")
    def _text_encoder_is_trained(self) -> VariantSettings:
        if self.text_encoder_learning_rate is not None and not self.text_encoder:
            raise ValueError(
                "text_encoder_learning_rate is of a text encoder that is not trained; set text_encoder = true, or "
                "leave the rate out"
            )
        return self
