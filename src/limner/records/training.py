"""Records of trainings: the log, validations, resumable states, kept adapters and the adapter itself."""

from __future__ import annotations

from typing import Any

from limner.records.base import ArtifactRecord, Record


class StepRecord(Record):
    """A line of `log.jsonl`: one step that was taken. A step whose loss was no finite number has none."""

    step: int
    """Counted from 1: after this many optimizer steps."""
    loss: float
    """What is minimised: the weighted sum over the step's batch."""
    instance_loss: float
    """The mean squared error over the photos of the batch, without weights."""
    prior_loss: float | None
    """The same over its class images, null without any."""
    learning_rate: float
    """The learning rate that acted; the first of `learning_rates` where there are several."""
    seconds: float
    """Mean seconds a step, up to this one."""
    learning_rates: dict[str, float] | None = None
    """The learning rate of every parameter group; left out where they all have the same."""


class ValidationRecord(Record):
    """What one scored validation measured; null is what could not be measured."""

    step: int
    """After this many optimizer steps."""
    likeness: float | None = None
    """Mean likeness of the pictures to the photos."""
    likeness_share: float | None = None
    """Likeness as a share of the span from the base's renders (0) to real photos (1)."""
    copying: float | None = None
    """Mean similarity to the nearest training photo."""
    copying_share: float | None = None
    """The share of pictures nearer to a training photo than any photo to another."""
    prompt_fidelity: float | None = None
    """Mean cosine of picture and prompt."""
    fidelity_share: float | None = None
    """Prompt fidelity as a share of the span from another prompt's picture (0) to the base's own (1)."""
    validation_loss: float | None = None
    """The loss on held-out photos."""


class ChosenStep(Record):
    """The step whose weights are delivered."""

    step: int
    """After this many optimizer steps."""
    why: str
    """Why it was chosen."""
    stopped_at: int | None = None
    """The step after which training stopped early, null where it did not."""


class ValidationCurve(Record):
    """`work/VARIANT/validation.json`: the scored validations of a training, so far."""

    key: str
    """The key of the training."""
    settings: dict[str, Any]
    """The validation's settings."""
    records: list[ValidationRecord]
    """One a validation, by step."""


class StartRecord(Record):
    """The result that a training started from."""

    label: str
    """Its label: the folder's name beside this one's."""
    content_hash: str
    """The hash of its files, as they were then."""


class AdapterRecord(ArtifactRecord):
    """`adapters/VARIANT/`: what was trained, or taken in from another program."""

    label: str
    """The variant's name, as its folders are called."""
    method: str
    """The way of teaching."""
    method_record: dict[str, Any]
    """What the way of teaching says of the result: of a LoRA its `rank`, `alpha` and `scale` (alpha by rank)."""
    training_seed: int | None
    """The seed of the training, null for one made elsewhere."""
    steps: int | None
    """The optimizer steps that were asked for, null where they are not known."""
    start_from: StartRecord | None
    """The result it was trained on top of."""
    made_elsewhere: str | None = None
    """The file's name of one that was made by another program."""
    trainable_parameters: int | None = None
    """How many numbers were trained."""
    seconds: float | None = None
    """How long training took, of all variants in the same pass together."""
    seconds_per_step: float | None = None
    """The same by step."""
    loss: float | None = None
    """The loss of the last logged step."""
    log: list[StepRecord] = []
    """The training's log, thinned to at most 200 lines."""
    validation: list[ValidationRecord] = []
    """Scored validations, by step."""
    chosen: ChosenStep | None = None
    """The step that was delivered, where validations decide."""


class CheckpointRecord(ArtifactRecord):
    """`work/VARIANT/step-N/`: a state to resume from: `trained.safetensors`, `optimizer.pt`, and
    `average.safetensors` where a moving average is kept."""

    step: int
    """The optimizer steps taken."""
    counters: dict[str, Any]
    """Seconds so far, steps skipped in a row, and the loss scale where there is one."""


class KeptRecord(ArtifactRecord):
    """`work/VARIANT/kept-N/`: the adapter after step N as it would be delivered, while it may still be chosen."""


class ReportRecord(ArtifactRecord):
    """`report/`: the comparison, written up."""
