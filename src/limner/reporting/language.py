"""Numbers, counts and lists as English and Russian write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from limner.metrics import Code

NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DECIMALS = 3
NARROW = "\u00a0"  # Russian sets a space before the percent sign, which must not break

# one, few (2 to 4) and many; English has no few
NOUNS: dict[str, dict[Code, tuple[str, str, str]]] = {
    "picture": {
        "en": ("picture", "pictures", "pictures"),
        "ru": ("изображение", "изображения", "изображений"),
    },
    "training seed": {
        "en": ("training seed", "training seeds", "training seeds"),
        "ru": ("запуск обучения", "запуска обучения", "запусков обучения"),
    },
    "subject": {
        "en": ("subject", "subjects", "subjects"),
        "ru": ("объект", "объекта", "объектов"),
    },
    "comparison": {
        "en": ("comparison", "comparisons", "comparisons"),
        "ru": ("сравнение", "сравнения", "сравнений"),
    },
    "of pictures": {  # after "of"/«из», where Russian takes the genitive
        "en": ("picture", "pictures", "pictures"),
        "ru": ("изображения", "изображений", "изображений"),
    },
}


def counted(count: int, noun: str, plural: str = "") -> str:
    """One picture, two pictures, 24 pictures."""
    word = NUMERALS[count] if count < len(NUMERALS) else f"{count:,}"
    return f"{word} {noun if count == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """A, B and C."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


@dataclass(frozen=True)
class Language:
    """How one language writes what stands between the words of a template."""

    code: Code

    def number(self, value: float, *, signed: bool = False, decimals: int = DECIMALS) -> str:
        """So many decimals with a true minus sign; a zero has no sign."""
        written = f"{value:z.{decimals}f}"
        plus = "+" if signed and value > 0 and float(written) else ""
        return self._local(plus + written)

    def plain(self, value: float) -> str:
        """A setting without needless digits: 1, 0.5, 0.0001."""
        return self._local(f"{value:g}")

    def percent(self, share: float, digits: int = 0) -> str:
        """A share in percent, with so many decimals at most."""
        written = f"{100 * share:z.{digits}f}"
        written = written.rstrip("0").rstrip(".") if "." in written else written
        return self._local(written) + (NARROW if self.code == "ru" else "") + "%"

    def probability(self, p: float) -> str:
        """A p with its sign of relation; none is said to be zero."""
        return self._local("p < 0.001" if p < 0.001 else f"p = {p:.3f}")

    def count(self, count: int, noun: str) -> str:
        """A count in digits with its noun in the form that the count asks for."""
        one, few, many = NOUNS[noun][self.code]
        return f"{count} {(one, few, many)[self._plural(count)]}"

    def listed(self, words: Sequence[str]) -> str:
        """A, B and C."""
        return listed(words) if self.code == "en" else " и ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

    def _plural(self, count: int) -> int:
        if self.code == "en":
            return 0 if count == 1 else 2
        if count % 10 == 1 and count % 100 != 11:
            return 0
        return 1 if count % 10 in (2, 3, 4) and count % 100 not in (12, 13, 14) else 2

    def _local(self, written: str) -> str:
        written = written if "e-" in written else written.replace("-", "−")
        return written.replace(".", ",") if self.code == "ru" else written
