"""Files made to break readers: a clear error each, no crash, no hang, nothing allocated beyond the file's size."""

from __future__ import annotations

import io
import json
import pickle
import random
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from limner.adapters.exchange import load_foreign
from limner.base.convert import convert
from limner.base.find import find_base
from limner.base.inspect import inspect
from limner.base.weights.header import MAX_HEADER_BYTES, read_header
from limner.errors import InputError

OVERHEAD_BYTES = 4 * 2**20  # of Python's own, for a file of some kilobytes
SLOWEST_SECONDS = 1.0
GOOD = {
    "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 768),
    "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(8),
}
WHOLE = save(GOOD)
LENGTH = int.from_bytes(WHOLE[:8], "little")
HEADER = json.loads(WHOLE[8 : 8 + LENGTH])
DATA = WHOLE[8 + LENGTH :]
FIRST = next(iter(GOOD))


def framed(header, data: bytes = DATA, length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(content) if length is None else length).to_bytes(8, "little") + content + data


def changed(**fields) -> bytes:
    """The good file with some fields of its first tensor replaced."""
    return framed(HEADER | {FIRST: HEADER[FIRST] | fields})


WORDS = [None, True, -1, 0.5, "F32", "", [], {}, [[]], 2**63, 2**64, 10**400, float("nan"), "x" * 5000, [2**62] * 8]


def malformed_headers() -> Iterator[bytes]:
    """Every field of every kind wrong, headers that lie about themselves, and JSON that is none."""
    for word in WORDS:
        yield changed(dtype=word) if word != "F32" else changed(dtype="F33")
        yield changed(shape=word)
        yield changed(data_offsets=word)
        yield changed(shape=[8, word, 3, 3])
        yield changed(data_offsets=[0, word])
        yield changed(data_offsets=[word, 1152])
        yield framed(HEADER | {FIRST: word})
        yield framed(HEADER | {"__metadata__": word}) if word != {} else framed(HEADER | {"__metadata__": {"a": 1}})
        yield framed(HEADER | {"__metadata__": {"key": word}}) if not isinstance(word, str) else framed(b"{" + b'"')
    for name in HEADER:
        yield framed({other: entry for other, entry in HEADER.items() if other != name})  # a gap, or a longer end
        yield framed(HEADER | {name + "2": HEADER[name]})  # two tensors in one place
    for length in (
        0,
        1,
        LENGTH - 1,
        LENGTH + 1,
        LENGTH + len(DATA) + 1,
        MAX_HEADER_BYTES,
        MAX_HEADER_BYTES + 1,
        2**63,
        2**64 - 1,
    ):
        yield framed(WHOLE[8 : 8 + LENGTH], length=length)
    for text in (
        b"{",
        b"{}}",
        b'{"a":}',
        b"{" * 200_000,
        b'{"a":' * 50_000,
        b"{\xff}",
        b'{"a":1,"a":1}',
        b'{"\\ud800":1}',
    ):
        yield framed(text)
    yield framed(b'{"a":' + b"9" * 10_000 + b"}")
    yield framed(HEADER, DATA + b"x")
    yield framed(HEADER, b"")


def truncated_files() -> Iterator[bytes]:
    """The good file cut at every place where something changes, and at fifty others."""
    places = {0, 1, 7, 8, 9, LENGTH, LENGTH + 7, LENGTH + 8, LENGTH + 9, len(WHOLE) - 1}
    places |= set(random.Random(0).sample(range(len(WHOLE)), 50))
    for place in sorted(places):
        yield WHOLE[:place]


def mislabelled_files() -> Iterator[bytes]:
    """What downloads turn out to be."""
    for beginning in (
        b"<!DOCTYPE html>", b"<html>", b"\xef\xbb\xbf<HTML>",
        b"version https://git-lfs.github.com/spec/v1", b"PK\x03\x04",
        b"PK\x05\x06", b"\x80\x02", b"\x80\x04\x95", b"\x89PNG", b"GIF89a", b"\xff\xd8\xff", b"GGUF", b"\x1f\x8b",
        b"%PDF",
        b'{"error": "Not Found"}', b"Access denied", b"\0" * 64, b"\xff" * 64, b"7z\xbc\xaf\x27\x1c",
    ):  # fmt: skip
        yield beginning
        yield beginning + bytes(random.Random(1).randbytes(4000))


def pickled_files() -> Iterator[bytes]:
    """Checkpoints: sound ones cut off, and ones that call what no weights need."""
    whole = io.BytesIO()
    torch.save(GOOD, whole)
    old = io.BytesIO()
    torch.save(GOOD, old, _use_new_zipfile_serialization=False)
    for content in (whole.getvalue(), old.getvalue()):
        for place in sorted(random.Random(2).sample(range(2, len(content)), 25)):
            yield content[:place]
    for call in (b"cos\nsystem\n(S'touch was-run'\ntR.", b'cbuiltins\nexec\n(S\'open("was-run","w")\'\ntR.'):
        yield b"\x80\x02" + call
        yield zipped({"archive/data.pkl": b"\x80\x02" + call})
    yield zipped({"archive/data.pkl": b"\x80\x02" + b"]" * 100_000 + b"."})
    yield zipped({"archive/data.pkl": b""})
    yield zipped({"archive/data.pkl": pickle.dumps({"x": 1}), "archive/DATA.PKL": b"\x80\x02."})
    yield zipped({"other.txt": b"hello"})
    yield zipped({"a/data.pkl": b"\0" * 12 * 2**20}, zipfile.ZIP_DEFLATED)  # 12 MB that pack into 12 kB


def zipped(files: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


HOSTILE = {
    "malformed": list(malformed_headers()),
    "truncated": list(truncated_files()),
    "mislabelled": list(mislabelled_files()),
    "pickled": list(pickled_files()),
}


def test_there_are_more_than_three_hundred():
    assert sum(map(len, HOSTILE.values())) >= 300


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_hostile_file_is_a_clear_error(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    for index, content in enumerate(HOSTILE[kind]):
        path.write_bytes(content)
        tracemalloc.start()
        began = time.perf_counter()
        report = inspect(path)
        seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.problems, f"{kind} {index}: {content[:60]}"
        assert all(problem and "\n" not in problem for problem in report.problems)
        assert seconds < SLOWEST_SECONDS, f"{kind} {index}: {seconds} s"
        assert peak < OVERHEAD_BYTES + 60 * len(content), f"{kind} {index}: {peak} bytes"
        for use in (lambda: find_base(str(path)), lambda: load_foreign(path), lambda: convert(path, tmp_path / "out")):
            with pytest.raises(InputError) as refused:
                use()
            assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "was-run").exists()


def test_no_pickle_is_run_even_when_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calling = [content for content in HOSTILE["pickled"] if b"was-run" in content][:2]
    assert calling
    for content in calling:
        (tmp_path / "model.ckpt").write_bytes(content)
        with pytest.raises(InputError):
            convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors", allow_pickle=True)
        assert not (tmp_path / "was-run").exists()


@st.composite
def damaged(draw) -> bytes:
    """The good file with some bytes changed, cut out or put in, or a header of any JSON at all."""
    if draw(st.booleans()):
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
            max_leaves=20,
        )
        entry = st.fixed_dictionaries(
            {"dtype": st.sampled_from(["F32", "F16", "I64", "X"]) | values, "shape": values, "data_offsets": values}
        )
        header = draw(st.dictionaries(st.text(max_size=12), entry | values, max_size=5))
        return framed(header, draw(st.binary(max_size=64)))
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content) - 1))
        change = draw(st.sampled_from(["set", "cut", "insert"]))
        if change == "set":
            content[place] = draw(st.integers(0, 255))
        elif change == "cut":
            del content[place : place + draw(st.integers(1, 200))]
        else:
            content[place:place] = draw(st.binary(min_size=1, max_size=20))
        if not content:
            break
    return bytes(content)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=damaged())
@example(content=framed({"two\nlines": None}, b""))
def test_the_header_reader_refuses_what_the_library_refuses_and_never_breaks(content, tmp_path):
    path: Path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        header, refusal = read_header(path).require_whole(), ""
    except InputError as error:
        header, refusal = None, str(error)
    assert "\n" not in refusal
    if header is not None:  # what we take for sound the library must too
        with safe_open(path, "pt") as library:
            assert set(library.keys()) == set(header.tensors)
