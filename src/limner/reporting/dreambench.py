"""DreamBench's table: DINO, CLIP-I and CLIP-T of every variant and the figures of Ruiz et al. (2023, table 1)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from limner.records import PooledRecord, SubjectSummary
from limner.reporting.findings import BASE_MODEL
from limner.reporting.language import Language, listed
from limner.reporting.pooled import markdown_table
from limner.statistics import Estimated, over_seeds

DINO, CLIP_I, CLIP_T = "DINO", "CLIP-I", "CLIP-T"
PUBLISHED = {  # arXiv:2208.12242, table 1
    "Real images": ("0.774", "0.885", "–"),
    "DreamBooth (Imagen)": ("0.696", "0.812", "0.306"),
    "DreamBooth (Stable Diffusion)": ("0.668", "0.803", "0.305"),
    "Textual Inversion (Stable Diffusion)": ("0.569", "0.780", "0.255"),
}
MODEL_NAMES = {DINO: "DINO ViT-S/16", CLIP_I: "CLIP-I ViT-B/32", CLIP_T: "CLIP-T ViT-B/32"}
ROLES = {DINO: "subject fidelity", CLIP_I: "subject fidelity", CLIP_T: "prompt fidelity"}
EN = Language("en")


def dreambench_markdown(record: PooledRecord, metrics: Mapping[str, str], stand_ins: Mapping[str, str]) -> str:
    """The page of a pooled record. `metrics` names the metric of each column, `stand_ins` what is not its own model."""
    summaries = record.subjects
    parts = [f"# {record.title}"]
    if not summaries:
        return "\n\n".join([*parts, "No subject was measured.", *_faults(record)]) + "\n"
    names = [row.name for row in summaries[0].variants]
    rows = [["real photos", *(_real(summaries, metrics[column]) for column in metrics)]]
    rows += [[name, *(_mean(summaries, metrics[column], name) for column in metrics)] for name in names]
    heads = [_head(column, stand_ins) for column in metrics]
    parts += [_standfirst(summaries), markdown_table(["measured here", *heads], rows)]
    parts += ["Published (Ruiz et al. 2023, table 1):"]
    parts += [markdown_table(["", *MODEL_NAMES.values()], [[name, *row] for name, row in PUBLISHED.items()])]
    return "\n\n".join([*parts, *_notes(stand_ins), *_faults(record)]) + "\n"


def _standfirst(summaries: Sequence[SubjectSummary]) -> str:
    pictures = sum(summary.pictures for summary in summaries)
    prompts, images = len(summaries[0].prompts), summaries[0].pictures_a_mean
    nouns = list(dict.fromkeys(str(summary.class_noun) for summary in summaries))
    return (
        f"{len(summaries)} subjects ({listed(nouns)}), {prompts} prompts each and {images} pictures a prompt: "
        f"{pictures:,} pictures with the base's. Means over subjects, with 95% intervals over subjects."
    )


def _head(column: str, stand_ins: Mapping[str, str]) -> str:
    """A stand-in is named by itself, never by the model whose place it takes."""
    if column not in stand_ins:
        return MODEL_NAMES[column]
    used = "the base's own CLIP" if stand_ins[column] == BASE_MODEL else stand_ins[column]
    return f"{used}, {ROLES[column]}"


def _mean(summaries: Sequence[SubjectSummary], metric: str, variant: str) -> str:
    """Mean over subjects of the mean over prompts (and training seeds)."""
    by_variant = [summary.values.get(metric, {}).get(variant, {}) for summary in summaries]
    return _with_interval([_over_prompts(seeds) for seeds in by_variant if seeds])


def _over_prompts(seeds: Mapping[str, Mapping[str, float]]) -> float:
    return statistics.fmean(statistics.fmean(means.values()) for means in seeds.values())


def _real(summaries: Sequence[SubjectSummary], metric: str) -> str:
    """Real photos of a subject against each other."""
    anchors = [summary.anchors[metric] for summary in summaries if metric in summary.anchors]
    return _with_interval([each.ceiling for each in anchors if each.ceiling is not None])


def _with_interval(means: Sequence[float]) -> str:
    if not means:
        return "–"
    mean = over_seeds(means, None, len(means), "paired")
    if not isinstance(mean, Estimated):
        return EN.number(mean.difference)
    return f"{EN.number(mean.difference)} ({EN.number(mean.interval[0])} to {EN.number(mean.interval[1])})"


def _notes(stand_ins: Mapping[str, str]) -> Iterator[str]:
    notes = [
        "Subject fidelity is the mean cosine over all pairs of a picture and a photo, whole pictures; of real photos, "
        "over all pairs of different ones (where there are four or more).",
        "CLIP-T here compares a picture with its prompt read by the class noun in place of identifier and noun. The "
        "paper says prompt and picture, and not whether the identifier stayed in; with it the figure would differ.",
        "The base is prompted with the class noun alone: its score is that of the class without the subject.",
    ]
    if stand_ins:
        notes.insert(0, "Columns of other models cannot be compared with the published ones; they say which is higher.")
    yield "\n".join(f"- {note}" for note in notes)


def _faults(record: PooledRecord) -> Iterator[str]:
    if record.faults:
        yield "Not measured: " + "; ".join(f"{name} ({fault})" for name, fault in record.faults.items())
