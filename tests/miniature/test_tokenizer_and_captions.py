"""The tokenizer keeps the listed words whole; captions are composed as described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("cv2")

from miniature.captions import (
    NEGATIVE_ROWS,
    PHRASES,
    RARE_TOKENS,
    build_bank,
    compose,
    unconditional_prompts,
)
from miniature.randomness import numpy_generator, seed_for
from miniature.styles import STYLE_NAMES
from miniature.tokenizer import broken_words, load_tokenizer, write_tokenizer
from miniature.words import PROMPTS, prompt_words, whole_words

BREEDS = [("cat", "siamese"), ("dog", "beagle")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)


def test_every_listed_word_is_one_token(tokenizer: Any) -> None:
    assert broken_words(tokenizer) == []
    assert set(prompt_words(PROMPTS)) <= set(whole_words())
    assert {"sks", "ohwx", "zwx", "graden", "hrd"} <= set(whole_words())
    assert len(tokenizer) <= 3000


def test_special_tokens_stand_where_clip_expects_them(tokenizer: Any) -> None:
    ids = tokenizer("a photo of sks cat face", padding="max_length", max_length=77).input_ids
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id
    assert ids[7:] == [tokenizer.eos_token_id] * 70
    assert tokenizer.pad_token_id == tokenizer.eos_token_id != 2, "2 would make CLIP pool at the largest id instead"
    assert tokenizer.model_max_length == 77


def test_unknown_text_falls_back_to_bytes(tokenizer: Any) -> None:
    ids = tokenizer("Überkatze 日本 🐱", add_special_tokens=False).input_ids
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == "überkatze日本🐱"


def test_captions_say_their_species_and_breed_and_repeat() -> None:
    for style in STYLE_NAMES:
        captions = [compose(numpy_generator(1, style, index), style, "cat", "siamese") for index in range(20)]
        assert captions == [compose(numpy_generator(1, style, index), style, "cat", "siamese") for index in range(20)]
        assert all("siamese cat" in caption for caption in captions)
        assert len(set(captions)) > 5


def test_the_plain_subject_prompt_is_within_the_captions() -> None:
    captions = {compose(numpy_generator(2, "photo", index), "photo", "cat", None) for index in range(4000)}
    assert "a photo of cat face" in captions
    assert any(f"a photo of {token} cat face" in captions for token in RARE_TOKENS)


def test_bank_rows_lie_where_their_labels_say(tokenizer: Any) -> None:
    bank = build_bank(tokenizer, BREEDS, captions_per_class=6, seed=0)
    assert bank.token_ids.shape == (len(STYLE_NAMES) * 2 * 6, 77)
    assert bank.unconditional_ids.shape == (NEGATIVE_ROWS, 77)
    row = (STYLE_NAMES.index("anime") * 2 + 1) * 6
    assert (bank.style[row : row + 6] == STYLE_NAMES.index("anime")).all()
    assert (bank.species[row : row + 6] == 1).all()
    named = bank.breed[row : row + 6] == 1
    beagle = tokenizer("beagle", add_special_tokens=False).input_ids[0]
    assert np.array_equal((bank.token_ids[row : row + 6] == beagle).any(1), named)


def test_every_style_has_phrases_and_dropout_prompts_are_half_empty() -> None:
    assert set(PHRASES) == set(STYLE_NAMES)
    assert unconditional_prompts(0).count("") == NEGATIVE_ROWS // 2
    assert seed_for(0, "a", 1) != seed_for(0, "a", 2) != seed_for(1, "a", 2)
