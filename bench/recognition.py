"""Does likeness name the right subject? Of real photos and of renders, by heads and by whole pictures.

FOLDER is what `limner subjects` or `limner dreambench` left: a run for each subject. Each photo, left out of its own
subject's photos, and each render goes to the subject whose photos it is most like; what counts is how often that is its
own, and by how much. Beside it stands in how many pictures a head is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limner.artifacts import Cell, PhotoSet, RenderSet
from limner.embeddings import WHOLE, EfficientNetLite0, EmbeddingCache, SubjectHeads
from limner.errors import InputError
from limner.measuring import BASE_VARIANT, likeness_like_for_like
from limner.metrics import compared_photos
from limner.opening import LOCK

RULES = ("heads", "whole pictures")
FEWEST_SUBJECTS = 2


@dataclass(frozen=True)
class Pictures:
    """Some pictures by both rules: cut around heads where one is found (N,), and whole; (N, D) each."""

    cut: Tensor
    found: Tensor
    whole: Tensor

    def of(self, rule: str) -> tuple[Tensor, Tensor]:
        """Vectors, and whether each is of a head."""
        return (self.cut, self.found) if rule == RULES[0] else (self.whole, torch.zeros_like(self.found))

    def without(self, place: int) -> Pictures:
        """All but one."""
        kept = torch.arange(len(self.cut)) != place
        return Pictures(self.cut[kept], self.found[kept], self.whole[kept])


@dataclass(frozen=True)
class Subject:
    """One run: its photos, those that renders are compared with, and its renders that ask for the subject."""

    name: str
    photos: Pictures
    compared: Pictures
    renders: Pictures
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Named:
    """How often the right subject was named, and how far it led before the best other on the mean."""

    right: float
    lead: float
    count: int

    def __str__(self) -> str:
        return f"{self.right:.3f} ({self.lead:+.3f})"


def recognition(folder: Path, device: str) -> str:
    """Both tables as Markdown. Raises InputError where FOLDER holds fewer than two runs."""
    subjects = list(_subjects(folder, device))
    if len(subjects) < FEWEST_SUBJECTS:
        raise InputError(f"{folder} holds runs of {len(subjects)} subjects; name what `limner subjects` wrote")
    names = ", ".join(subject.name for subject in subjects)
    lines = [f"{len(subjects)} subjects ({names}): share that names the right one, in brackets its mean lead.", ""]
    lines += ["| real photos | " + " | ".join(["head found", *RULES]) + " |", "|---" * 4 + "|"]
    found = torch.cat([subject.photos.found for subject in subjects]).float().mean()
    lines += [_row(f"{sum(len(s.photos.cut) for s in subjects)}, each left out", float(found), _photos_named(subjects))]
    lines += ["", "| variant | prompt | renders | " + " | ".join(["head found", *RULES]) + " |", "|---" * 6 + "|"]
    keys = dict.fromkeys((cell.variant, cell.prompt) for subject in subjects for cell in subject.cells)
    return "\n".join([*lines, *(_renders_row(subjects, *key) for key in keys)])


def _row(title: str, found: float, named: Iterable[Named]) -> str:
    return f"| {title} | {found:.3f} | " + " | ".join(map(str, named)) + " |"


def _renders_row(subjects: Sequence[Subject], variant: str, prompt: str) -> str:
    scores: dict[str, list[Tensor]] = {rule: [] for rule in RULES}
    own, found = [], []
    for place, subject in enumerate(subjects):
        chosen = [i for i, cell in enumerate(subject.cells) if (cell.variant, cell.prompt) == (variant, prompt)]
        found += subject.renders.found[chosen].tolist()
        own += [place] * len(chosen)
        for rule in RULES:
            vectors, cut = subject.renders.of(rule)
            likenesses = [_likeness(vectors[chosen], cut[chosen], other.compared) for other in subjects]
            scores[rule].append(torch.stack(likenesses, 1))  # (n, subjects)
    named = [_named(torch.cat(scores[rule]), torch.tensor(own)) for rule in RULES]
    told = ["–"] * len(RULES) if variant == BASE_VARIANT else map(str, named)
    return f"| {variant} | {prompt} | {len(own)} | {sum(found) / len(found):.3f} | " + " | ".join(told) + " |"


def _photos_named(subjects: Sequence[Subject]) -> Iterator[Named]:
    for rule in RULES:
        rows, own = [], []
        for place, subject in enumerate(subjects):
            vectors, cut = subject.photos.of(rule)
            for photo in range(len(vectors)):
                galleries = [s.photos.without(photo) if s is subject else s.photos for s in subjects]
                one = slice(photo, photo + 1)
                rows.append(torch.cat([_likeness(vectors[one], cut[one], gallery) for gallery in galleries]))
                own.append(place)
        yield _named(torch.stack(rows), torch.tensor(own))


def _likeness(vectors: Tensor, cut: Tensor, photos: Pictures) -> Tensor:
    """Like for like: (N,)."""
    heads = photos.cut[photos.found] if bool(photos.found.any()) else photos.whole
    return likeness_like_for_like(vectors, cut, heads, photos.whole)


def _named(scores: Tensor, own: Tensor) -> Named:
    """Of likenesses (N, subjects) and the right subject of each (N,)."""
    right = scores.gather(1, own[:, None])[:, 0]
    others = scores.scatter(1, own[:, None], -torch.inf).amax(1)
    return Named(float((right > others).float().mean()), float((right - others).mean()), len(own))


def _subjects(folder: Path, device: str) -> Iterator[Subject]:
    embedder = EfficientNetLite0(device)
    for run in sorted(path.parent for path in folder.glob(f"*/{LOCK}")):
        photo_set, renders = PhotoSet(run / "photos"), RenderSet(run / "renders")
        study = json.loads((run / LOCK).read_text(encoding="utf-8"))["study"]
        asked = {each["name"] for each in study["render"]["prompts"] if _asks_for_subject(each["prompt"])}
        cache = EmbeddingCache(run / "work" / ".embeddings")
        compared = compared_photos(photo_set)
        crop = SubjectHeads(study["subject"]["class_noun"], compared, device).crop
        cells = [cell for cell in renders.cells if not cell.flagged and cell.prompt in asked]
        photos, held, made = (
            Pictures(cut.vectors, cut.found, cache.embed(embedder, files, WHOLE).vectors)
            for files in (photo_set.files, compared, [renders.path(cell) for cell in cells])
            for cut in [cache.embed(embedder, files, crop)]
        )
        yield Subject(run.name, photos, held, made, cells)


def _asks_for_subject(prompt: str) -> bool:
    return "{subject}" in prompt or "{identifier}" in prompt
