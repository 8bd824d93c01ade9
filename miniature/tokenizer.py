"""A CLIPTokenizer with a small vocabulary in which every listed word is one token."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from miniature.files import write_json, written_whole
from miniature.settings import MAX_TOKENS, Job
from miniature.words import whole_words

BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
WORD_END = "</w>"


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes, in GPT-2's and CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that make every word a single token (Sennrich et al. 2016, algorithm 1, run to its end)."""
    spellings = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(spelling) > 1 for spelling in spellings):
        pair = _most_frequent_pair(spellings)
        merges.append(pair)
        spellings = [_merge(spelling, pair) for spelling in spellings]
    return merges


def _most_frequent_pair(spellings: list[list[str]]) -> tuple[str, str]:
    counts: dict[tuple[str, str], int] = {}
    for spelling in spellings:
        for pair in pairwise(spelling):
            counts[pair] = counts.get(pair, 0) + 1
    return max(counts, key=lambda pair: (counts[pair], pair))


def _merge(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in spelling:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def build_vocabulary(words: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token to id, and the merges. All bytes are tokens, so any text can be written."""
    symbols = byte_symbols()
    merges = learn_merges(words)
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(pair) for pair in merges), BOS, EOS]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def write_tokenizer(folder: Path) -> None:
    """Write the files that `CLIPTokenizer.from_pretrained` reads."""
    vocabulary, merges = build_vocabulary(whole_words())
    write_json(folder / "vocab.json", vocabulary)
    with written_whole(folder / "merges.txt") as temporary:
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", settings | special)


def load_tokenizer(folder: Path):
    """The tokenizer, through the class that Stable Diffusion 1.5's folder names."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def broken_words(tokenizer) -> list[str]:
    """The listed words that are not a single token (none, if all is well)."""
    rows = tokenizer(whole_words(), add_special_tokens=False)["input_ids"]
    return [word for word, row in zip(whole_words(), rows, strict=True) if len(row) != 1]


def run(job: Job) -> None:
    """Write WORK/tokenizer and prove it."""
    write_tokenizer(job.folder)
    tokenizer = load_tokenizer(job.folder)
    broken = broken_words(tokenizer)
    if broken:
        raise AssertionError(f"words that are not one token: {broken[:10]}")
    ids = tokenizer("a photo of sks cat face", padding="max_length", max_length=MAX_TOKENS)["input_ids"]
    if (ids[0], ids[-1]) != (tokenizer.bos_token_id, tokenizer.eos_token_id):
        raise AssertionError(f"special tokens are misplaced: {ids}")
    print(f"tokenizer: {len(tokenizer)} tokens, {len(whole_words())} whole words", flush=True)
