"""Composed captions: style or light, a rare token that means nothing yet, breed or none, cat or dog, face.

A bank of token rows for every (style, breed) is made once, so that training draws rows by index on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miniature.randomness import numpy_generator
from miniature.settings import MAX_TOKENS
from miniature.styles import STYLE_NAMES
from miniature.words import DISTRACTORS, IDENTIFIERS

RARE_TOKENS = IDENTIFIERS + DISTRACTORS
RARE_SHARE = 0.3
BREED_SHARE = 0.5
FACE_SHARE = 0.6
TAGS_SHARE = 0.2
NEGATIVE_ROWS = 64
"""Rows for caption dropout: half empty, half lists of faults, so that a negative prompt is unconditional too."""

NEUTRAL = (
    "a photo of",
    "a photo of",
    "photo of",
    "portrait of",
    "a portrait of",
    "close-up portrait of",
    "close up portrait of",
)


@dataclass(frozen=True)
class Phrases:
    """How one style is said: before the subject, or after a neutral beginning."""

    before: tuple[str, ...]
    after: tuple[str, ...] = ()


def _medium(*names: str) -> Phrases:
    """A style that can be said as "a NAME of" or as ", NAME"."""
    before = tuple(form for name in names for form in (f"a {name} of", f"{name} of", f"{name} portrait of"))
    return Phrases(before, tuple(f", {name}" for name in names))


PHRASES: dict[str, Phrases] = {
    "photo": Phrases((*NEUTRAL, "a photograph of", "a close-up photo of"), ("", ", realistic photo")),
    "pencil sketch": _medium("pencil sketch", "pencil drawing", "sketch"),
    "watercolour": _medium("watercolour", "watercolor", "watercolour painting"),
    "oil painting": Phrases(("an oil painting of", "oil painting of", "a painting of"), (", oil painting",)),
    "pixel art": Phrases(("pixel art of", "a pixel art of", "a pixel art portrait of"), (", pixel art",)),
    "cartoon": Phrases(("a cartoon of", "cartoon of", "a comic of"), (", cartoon style", ", cartoon")),
    "anime": Phrases(
        ("anime of", "an anime drawing of", "an anime portrait of"), (", anime style", ", anime", ", manga")
    ),
    "black and white": Phrases(
        ("a black and white photo of", "black and white photo of", "a monochrome photo of"),
        (", black and white", ", monochrome"),
    ),
    "sepia": Phrases(("a sepia photo of", "sepia photo of", "an old photo of"), (", sepia", ", in sepia")),
    "night": Phrases((), (", at night", " at night", ", midnight", ", in the moonlight", ", dark night")),
    "sunset": Phrases((), (", at sunset", " at sunset", ", golden hour", ", in sunset light")),
    "snow": Phrases((), (", in the snow", " in the snow", ", snowing", ", winter snow")),
    "forest": Phrases((), (", in the forest", " in the forest", ", in the woods", ", green leaves")),
    "mosaic": _medium("mosaic", "stained glass mosaic"),
    "classic art": Phrases(
        ("a classic painting of", "a renaissance painting of", "classic art of"),
        (", classic art style", ", classical art", ", renaissance style"),
    ),
    "neon": Phrases(
        ("a neon drawing of", "neon sign of", "a neon portrait of"), (", neon", ", neon lights", ", neon glow")
    ),
}
TAGS = tuple(
    [
        "standing",
        "sitting",
        "smiling",
        "4k",
        "raw",
        "hrd",
        "hd",
        "hdr",
        "high quality",
        "best quality",
        "realism",
        "sharp focus",
        "beautiful",
        "detailed",
        "detailed eyes",
        "beautiful eyes",
        "extremely detailed",
        "cinematic",
        "super resolution",
        "cute",
        "in a garden",
        "in the kitchen",
        "on the street",
        "looking at camera",
        "front",
        "sunny lighting",
        "realistic",
    ]
)
FAULTS = tuple(
    [
        "naked",
        "nsfw",
        "deformed",
        "distorted",
        "disfigured",
        "poorly drawn",
        "bad anatomy",
        "extra limb",
        "missing limb",
        "floating limbs",
        "mutated hands",
        "disconnected limbs",
        "mutation",
        "ugly",
        "blurry",
        "amputation",
        "monochrome",
        "lowres",
        "worst quality",
        "low quality",
    ]
)


@dataclass(frozen=True)
class CaptionBank:
    """Token rows; row = (style * breeds + breed) * captions_per_class + k."""

    token_ids: np.ndarray  # (rows, 77) int64
    style: np.ndarray  # (rows,)
    breed: np.ndarray  # (rows,) breed that the caption names, -1 for none
    species: np.ndarray  # (rows,)
    unconditional_ids: np.ndarray  # (NEGATIVE_ROWS, 77)
    captions_per_class: int


def subject_phrase(generator: np.random.Generator, species: str, breed: str | None) -> str:
    """For example "sks cat face", "a beagle dog", "qxz persian cat face"."""
    rare = generator.random() < RARE_SHARE
    words = [str(generator.choice(RARE_TOKENS))] if rare else []
    if breed is not None:
        words.append(breed)
    words.append(species)
    if generator.random() < FACE_SHARE:
        words.append("face")
    article = not rare and generator.random() < 0.3
    return " ".join(["a", *words] if article else words)


def compose(generator: np.random.Generator, style: str, species: str, breed: str | None) -> str:
    """One caption of a picture in `style` of a `species`, naming `breed` if it is given."""
    phrases = PHRASES[style]
    subject = subject_phrase(generator, species, breed)
    if phrases.before and (not phrases.after or generator.random() < 0.55):
        caption = f"{generator.choice(phrases.before)} {subject}"
    else:
        caption = f"{generator.choice(NEUTRAL)} {subject}{generator.choice(phrases.after)}"
    if generator.random() < TAGS_SHARE:
        caption += ", " + ", ".join(generator.choice(TAGS, size=generator.integers(1, 11), replace=False))
    return caption


def build_bank(tokenizer, breeds: list[tuple[str, str]], captions_per_class: int, seed: int) -> CaptionBank:
    """Captions for every style and every (species, breed) pair, as token rows."""
    texts: list[str] = []
    labels: list[tuple[int, int, int]] = []
    for style_index, style in enumerate(STYLE_NAMES):
        for breed_index, (species, breed) in enumerate(breeds):
            generator = numpy_generator(seed, "captions", style_index * len(breeds) + breed_index)
            for _ in range(captions_per_class):
                named = generator.random() < BREED_SHARE
                texts.append(compose(generator, style, species, breed if named else None))
                labels.append((style_index, breed_index if named else -1, int(species == "dog")))
    style_of, breed_of, species_of = np.array(labels, np.int64).T
    unconditional = token_rows(tokenizer, unconditional_prompts(seed))
    return CaptionBank(token_rows(tokenizer, texts), style_of, breed_of, species_of, unconditional, captions_per_class)


def unconditional_prompts(seed: int) -> list[str]:
    """The empty prompt and lists of faults, half and half."""
    generator = numpy_generator(seed, "unconditional")
    counts = generator.integers(1, len(FAULTS) + 1, NEGATIVE_ROWS // 2)
    faults = [", ".join(generator.choice(FAULTS, size=count, replace=False)) for count in counts]
    return [""] * (NEGATIVE_ROWS // 2) + faults


def token_rows(tokenizer, texts: list[str]) -> np.ndarray:
    """Token ids padded to 77, as Stable Diffusion 1.5 pads them."""
    rows = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_TOKENS)["input_ids"]
    return np.array(rows, np.int64)  # (rows, 77)
