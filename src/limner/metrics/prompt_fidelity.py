"""Prompt fidelity: each picture against its prompt, read with the class noun instead of the identifier."""

from __future__ import annotations

from limner.embeddings import WHOLE, PairEmbedder
from limner.measuring import class_text, prompt_fidelity
from limner.metrics.inputs import Measured, MeasureInputs
from limner.metrics.metric import Metric, OfTextModel, Words


def measure_prompt_fidelity(inputs: MeasureInputs, pair: PairEmbedder) -> Measured:
    """Of every picture (CLIP-T of DreamBench, Ruiz et al. 2023, section 4.2)."""
    prompts = [picture.cell.text or picture.cell.prompt for picture in inputs.pictures]
    texts = [class_text(prompt, inputs.subject.identifier, inputs.subject.class_noun) for prompt in prompts]
    with inputs.progress.task("measure", len(inputs.pictures), f"prompt fidelity ({pair.name})") as advance:
        pictures = inputs.cache.embed(pair, inputs.files, WHOLE, advance)
        of_prompts = inputs.cache.embed_texts(pair, texts)  # (N, D)
    values = prompt_fidelity(pictures.vectors, of_prompts).tolist() if texts else []
    return Measured(range(len(values)), values, "cosine of picture and prompt, identifier read as class noun")


PROMPT_FIDELITY = Metric(
    "prompt_fidelity",
    OfTextModel(measure_prompt_fidelity),
    {
        "en": Words(
            "Prompt fidelity",
            "prompt fidelity",
            "prompt",
            "how near the picture lies to its own prompt in CLIP’s shared space. Higher is closer to the prompt.",
            more="closer to the prompt",
        ),
        "ru": Words(
            "Соответствие запросу",
            "соответствие запросу",
            "запрос",
            "насколько изображение близко к своему текстовому запросу в общем пространстве CLIP. Чем выше, тем точнее.",
            more="ближе к запросу",
        ),
    },
    better="higher",
    unit="cosine",
    shown=frozenset({"tables", "pictures", "trade-off x", "pooled"}),
    compared=True,
    leads=True,
    required=True,
    pooled_prompts="subject",
)
