"""What likeness compares: the subject's head, cut out of photos and pictures by one rule.

The rule: heads are found as `prepare` finds them, of the kind that the class noun names. Of several in a picture the
subject's is the one that recurs in its photos. It is cut out with as much around it as a portrait has. A picture
without a head is not cut and is compared whole, with whole photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from limner.artifacts import canonical_json, hash_bytes, hash_file
from limner.embeddings.crops import Crop, Square, read_image
from limner.embeddings.embedder import Pixels
from limner.embeddings.head_finder import FoundHead, HeadFinder, finder_identity
from limner.embeddings.recurrence import choose_head, choose_heads

RULE_VERSION = 1  # raise it when another part of a picture is cut out
HEAD_SHARE = 2 / 3  # of the side of the square around a head, as in portraits
LEAST_SHARE = 0.5  # of the photos that must show a head, or heads are not what is compared
ANIMALS = ("cat", "dog")  # a sketch of a cat may be seen as a dog's: which of the two it is, likeness says
NOUNS = {
    ANIMALS: {"cat", "kitten", "kitty", "tomcat", "dog", "puppy", "doggy"},
    ("person",): {"person", "woman", "man", "girl", "boy", "lady", "child", "human", "male", "female"},
}


class SubjectHeads:
    """The heads of one subject: seen in its photos, found in other pictures.

    Made from the class noun and the photo files; nothing is loaded or looked at before it is asked.
    """

    def __init__(self, class_noun: str, photos: Sequence[Path], device: torch.device | str = "cpu") -> None:
        self.kinds, self.photos, self.device = kinds_of(class_noun), list(photos), device
        self._squares: dict[str, Square | None] = {}

    @property
    def identity(self) -> str:
        """Stands for everything that decides what is cut out, in keys and caches."""
        digest = hash_bytes(canonical_json([hash_file(file) for file in self.photos]))[:12]
        return "-".join(["head", str(RULE_VERSION), finder_identity(), *(self.kinds or ()), digest])

    @cached_property
    def in_photos(self) -> list[FoundHead | None]:
        """The subject's head in each photo, or None. Raises LimnerError for a photo that cannot be read."""
        heads = self._finder.find([read_image(file) for file in self.photos], self.kinds)
        chosen = choose_heads(heads)
        return [own[place] if own else None for own, place in zip(heads, chosen, strict=True)]

    @property
    def seen(self) -> int:
        """How many of the photos show a head."""
        return sum(head is not None for head in self.in_photos)

    @property
    def compared(self) -> bool:
        """Whether heads are what is compared: where most photos show none, whole pictures are."""
        return self.seen > 0 and self.seen >= LEAST_SHARE * len(self.photos)

    def squares(self, pictures: Sequence[Pixels]) -> list[Square | None]:
        """The square around the subject's head in each picture (H, W, 3) uint8 RGB, None where there is no head.

        Remembered by content, so that a second embedder need not look for them again.
        """
        keys = [hash_bytes(repr(picture.shape).encode() + picture.tobytes()) for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._squares}
        if new:
            shown = [[head] for head in self.in_photos if head is not None]
            for (key, picture), heads in zip(new.items(), self._finder.find([*new.values()], self.kinds), strict=True):
                head = heads[choose_head(heads, shown)] if heads else None
                self._squares[key] = square_around(head, picture) if head else None
        return [self._squares[key] for key in keys]

    @property
    def crop(self) -> Crop:
        """How pictures are cut for an embedder."""
        return Crop(self.identity, squares=self.squares)

    @cached_property
    def _finder(self) -> HeadFinder:
        return HeadFinder(self.device)


def kinds_of(class_noun: str) -> tuple[str, ...] | None:
    """The kinds of head that a class noun names; None, which is any kind, where it names none."""
    words = set(class_noun.lower().split())
    return next((kinds for kinds, nouns in NOUNS.items() if words & nouns), None)


def square_around(head: FoundHead, picture: Pixels) -> Square:
    """Left, top, right and lower edge in whole px of the square that the head fills two thirds of, inside the picture.

    Whole px, so that a box which differs in its last bits on another machine cuts the same.
    """
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = head.box
    side = min(max(1, round(max(x1 - x0, y1 - y0) / HEAD_SHARE)), width, height)
    x, y = head.centre
    left = min(max(round(x - side / 2), 0), width - side)
    top = min(max(round(y - side / 2), 0), height - side)
    return left, top, left + side, top + side
