"""Each picture against its prompt, read with the class noun instead of the identifier."""

from __future__ import annotations

from limner.config import Subject
from limner.embeddings import WHOLE, EmbedderLocation, PairEmbedder
from limner.errors import InputError
from limner.measuring import class_text, prompt_fidelity
from limner.stages.measure.work import Work, there


def score_prompt_fidelity(work: Work, name: str, place: EmbedderLocation | str, subject: Subject) -> None:
    """Rows `prompt_fidelity/NAME` for all pictures; left out where the pair is not there."""
    metric = f"prompt_fidelity/{name}"
    try:
        pair: PairEmbedder = there(place).load_pair(work.device)
    except InputError as error:
        work.leave_out(metric, name, str(error))
        return
    prompts = [p.cell.text or p.cell.prompt for p in work.pictures]
    texts = [class_text(prompt, subject.identifier, subject.class_noun) for prompt in prompts]
    with work.progress.task(f"measure prompt fidelity ({name})", len(work.pictures)) as advance:
        pictures = work.cache.embed(pair, work.files, WHOLE, advance)
        of_prompts = work.cache.embed_texts(pair, texts)  # (N, D)
    work.scores.use(metric, name)
    work.scores.anchor(metric, None, None, "cosine of picture and prompt, identifier read as class noun")
    if texts:
        work.scores.add(metric, work.pictures, prompt_fidelity(pictures.vectors, of_prompts).tolist())
