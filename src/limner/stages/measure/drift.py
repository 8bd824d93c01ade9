"""Drift and diversity of pictures whose prompts leave the subject out."""

from __future__ import annotations

from torch import Tensor

from limner.measuring import base_mean, beside_base, diversities, drift
from limner.stages.measure.work import Work


def score_drift(work: Work, model: str, name: str, whole: Tensor) -> None:
    """Rows `drift/MODEL` and `diversity/MODEL` from whole pictures' embeddings (N, D), for any method."""
    places = [place for place, picture in enumerate(work.pictures) if not work.names_subject(picture)]
    if not places:
        return
    pictures, vectors = [work.pictures[place] for place in places], whole[places]
    pairs = beside_base(pictures)
    metric = f"drift/{model}"
    work.scores.use(metric, name)
    if pairs:
        own, of_base = ([pair[side] for pair in pairs] for side in (0, 1))
        work.scores.add(metric, [pictures[place] for place in own], drift(vectors[own], vectors[of_base]).tolist())
    note = "1 - cosine of whole pictures to the base's of the same prompt and seed; 0: the base's own picture"
    work.scores.anchor(
        metric, 0.0, None, note, class_prompts=work.kinds.of_class, unrelated_prompts=work.kinds.unrelated
    )
    _score_diversity(work, f"diversity/{model}", name, whole)


def _score_diversity(work: Work, metric: str, name: str, whole: Tensor) -> None:
    places = [place for place, picture in enumerate(work.pictures) if work.of_class(picture)]
    pictures = [work.pictures[place] for place in places]
    values = diversities(pictures, whole[places])
    if values:
        chosen, own = [pictures[place] for place in values], list(values.values())
        work.scores.use(metric, name)
        work.scores.add(metric, chosen, own)
        note = (
            "mean of 1 - cosine to the other pictures of the same class prompt and variant; floor: the base's; below "
            "it the class has become poorer"
        )
        work.scores.anchor(metric, base_mean(chosen, own), None, note)


def note_prompts_without_subject(work: Work) -> None:
    """Say what a study would have to ask for so that drift could be measured."""
    if not work.kinds.without_subject:
        work.scores.notes.append(
            "drift is not measured: every prompt names the subject; add a prompt with {class_noun} alone, and others "
            "that have nothing to do with it"
        )
    elif not work.kinds.of_class:
        work.scores.notes.append("diversity is not measured: no prompt asks for {class_noun} alone")
