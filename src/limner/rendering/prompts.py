"""Checks of prompts before they are rendered."""

from __future__ import annotations

from typing import Any

from limner.base import tokenize
from limner.config import Subject
from limner.errors import PromptError
from limner.progress import Progress

MARKERS = 2  # tokens that begin and end every prompt


def check_prompt(tokenizer: Any, subject: Subject, name: str, prompt: str, progress: Progress) -> None:
    """Give a notice for a prompt that is cut or does not name the subject.

    Raises PromptError if the subject itself is cut off: the picture could not show it.
    """
    text = subject.fill(prompt)
    cut = tokenize(tokenizer, [text]).cut[0]
    named = _end_of_subject(subject, text)
    if named is None:
        progress.notice(f'prompt "{name}" does not name "{subject.identifier}"; it shows how the model drifted')
    if not cut:
        return
    limit = tokenizer.model_max_length
    if named is not None and _token_count(tokenizer, text[:named]) > limit:
        raise PromptError(
            f'prompt "{name}" has {limit + cut} tokens and only {limit} are read, so "{text[:named].split()[-1]}" '
            "is cut off; name the subject earlier or shorten the prompt"
        )
    progress.notice(f'prompt "{name}" has {limit + cut} tokens; the last {cut} are not read')


def check_negative_prompt(tokenizer: Any, name: str, text: str, progress: Progress) -> None:
    """Give a notice for a negative prompt that is cut."""
    cut = tokenize(tokenizer, [text]).cut[0]
    if cut:
        total = tokenizer.model_max_length + cut
        progress.notice(f'negative prompt of "{name}" has {total} tokens; the last {cut} are not read')


def _end_of_subject(subject: Subject, text: str) -> int | None:
    """Where the subject's first mention ends: identifier and class noun, else the identifier alone."""
    padded = f" {_spaced(text)} "
    for phrase in (subject.phrase, subject.identifier):
        position = padded.find(f" {_spaced(phrase)} ")
        if position >= 0:
            return position + len(phrase)
    return None


def _spaced(text: str) -> str:
    """Lower case, every mark a space, the length unchanged: words can be found by the spaces around them."""
    return "".join(letter.lower()[0] if letter.isalnum() else " " for letter in text)


def _token_count(tokenizer: Any, text: str) -> int:
    """Tokens up to the end of `text`, its two markers included (the end marker is never cut)."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids) + MARKERS
