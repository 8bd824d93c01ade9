"""Embeddings are made once for each content, model and crop."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from limner.base import find_base
from limner.embeddings import (
    WHOLE,
    Crop,
    EfficientNetLite0,
    EmbeddingCache,
    SubjectHeads,
    find_embedder,
    read_image,
    view_crops,
)
from limner.embeddings.cache import CHUNK
from limner.errors import LimnerError
from tests.drawn import draw_subject

MIRRORED = view_crops()[1]


class Counting:
    """EfficientNet that counts the pictures it is given."""

    def __init__(self) -> None:
        self._model = EfficientNetLite0()
        self.name, self.identity, self.size_px = self._model.name, self._model.identity, self._model.size_px
        self.seen = 0

    def embed(self, images):
        self.seen += len(images)
        return self._model.embed(images)


@pytest.fixture(scope="module")
def embedder() -> Counting:
    return Counting()


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        draw_subject((64, 64), index).save(path)
    return paths


def newly_seen(embedder, cache, files, crop=WHOLE):
    before = embedder.seen
    embedded = cache.embed(embedder, files, crop)
    return embedder.seen - before, embedded


def test_what_is_known_is_not_computed_again(embedder, files, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    count, first = newly_seen(embedder, cache, files[:2])
    assert count == 2
    count, again = newly_seen(embedder, EmbeddingCache(tmp_path / "cache"), [files[2], files[0], files[1]])
    assert count == 1
    assert torch.equal(again.vectors[1:], first.vectors)
    assert torch.allclose(again.vectors, embedder.embed([read_image(f) for f in (files[2], *files[:2])]), atol=1e-5)


def test_texts_are_kept_by_content_and_model(tiny_folder, tmp_path, monkeypatch):
    pair = find_embedder("base", find_base(str(tiny_folder))).load_pair()
    alone, seen = pair.embed_texts(["a cat", "at night"]), []
    embed = pair.embed_texts
    monkeypatch.setattr(pair, "embed_texts", lambda texts: seen.extend(texts) or embed(texts))
    first = EmbeddingCache(tmp_path / "cache").embed_texts(pair, ["a cat", "at night", "a cat"])
    again = EmbeddingCache(tmp_path / "cache").embed_texts(pair, ["at night", "a dog", "a cat"])
    assert seen == ["a cat", "at night", "a dog"]
    assert torch.equal(first, alone[[0, 1, 0]])
    assert torch.equal(again[[2, 0]], alone)
    monkeypatch.setattr(pair, "identity", "f" * 64)
    EmbeddingCache(tmp_path / "cache").embed_texts(pair, ["a cat"])
    assert seen[3:] == ["a cat"]
    assert EmbeddingCache(tmp_path / "cache").embed_texts(pair, []).shape == (0, 16)


def test_other_content_under_the_same_name_is_seen(embedder, files, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    _, first = newly_seen(embedder, cache, files)
    draw_subject((64, 64), 9).save(files[1])
    count, second = newly_seen(embedder, cache, files)
    assert count == 1
    assert not torch.allclose(first.vectors[1], second.vectors[1])


def test_the_same_picture_twice_is_computed_once(embedder, files, tmp_path):
    count, embedded = newly_seen(embedder, EmbeddingCache(tmp_path / "cache"), [files[0], files[0]])
    assert count == 1
    assert torch.equal(embedded.vectors[0], embedded.vectors[1])


def test_crops_are_kept_apart(embedder, files, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    for crop in (WHOLE, MIRRORED, SubjectHeads("cat", files).crop):
        count, _ = newly_seen(embedder, cache, files, crop)
        assert count == 3
    Image.open(files[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files[2])
    whole, mirrored = (cache.embed(embedder, files, crop).vectors for crop in (WHOLE, MIRRORED))
    assert torch.allclose(mirrored[0], whole[2], atol=1e-5)


def test_a_damaged_cache_is_made_anew(embedder, files, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    newly_seen(embedder, cache, files)
    (store,) = (tmp_path / "cache").iterdir()
    store.write_bytes(store.read_bytes()[:100])
    count, _ = newly_seen(embedder, cache, files)
    assert count == 3
    assert newly_seen(embedder, cache, files)[0] == 0


def test_no_pictures_are_no_embeddings(embedder, tmp_path):
    embedded = EmbeddingCache(tmp_path / "cache").embed(embedder, [])
    assert embedded.vectors.shape == (0, 1280)
    assert not (tmp_path / "cache").exists()


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(LimnerError, match=r"broken\.png cannot be read"):
        read_image(tmp_path / "broken.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").shape == (4, 4, 3)


def test_where_a_crop_was_cut_is_kept_with_its_embedding(embedder, files, tmp_path):
    squares = {8: (2, 3, 6, 7)}  # by the width of the picture; None in others
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(small)
    crop = Crop("squares", squares=lambda images: [squares.get(image.shape[1]) for image in images])
    cache = EmbeddingCache(tmp_path / "cache")
    for _ in range(2):  # computed, then read
        embedded = cache.embed(embedder, [small, files[0]], crop)
        assert embedded.squares.tolist() == [[2, 3, 6, 7], [-1, -1, -1, -1]]
        assert embedded.found.tolist() == [True, False]


def test_many_pictures_keep_their_order_and_one_that_cannot_be_read_ends_it(embedder, tmp_path):
    files = [tmp_path / f"{index:03}.png" for index in range(2 * CHUNK + 3)]
    for index, path in enumerate(files):
        Image.new("RGB", (8, 8), (index, 255 - index, (7 * index) % 256)).save(path)
    heard: list[int] = []
    embedded = EmbeddingCache(tmp_path / "cache").embed(embedder, files, advance=heard.append)
    assert sum(heard) == len(files)
    for index in (0, CHUNK - 1, CHUNK, len(files) - 1):
        alone = EmbeddingCache(tmp_path / f"alone-{index}").embed(embedder, [files[index]]).vectors[0]
        assert torch.allclose(embedded.vectors[index], alone, atol=1e-5)
    files[CHUNK + 1].write_bytes(b"no picture")
    with pytest.raises(LimnerError, match=files[CHUNK + 1].name):
        EmbeddingCache(tmp_path / "other").embed(embedder, files)


def test_the_number_of_threads_does_not_change_a_byte(embedder, tmp_path, monkeypatch):
    files = [tmp_path / f"{index:02}.png" for index in range(20)]
    for index, path in enumerate(files):
        draw_subject((96, 96), index).save(path)
    stores = []
    for count in (1, 7):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        cache = EmbeddingCache(tmp_path / str(count))
        cache.embed(embedder, files, SubjectHeads("cat", files[:4]).crop)
        (store,) = cache.folder.iterdir()
        stores.append(store.read_bytes())
    assert stores[0] == stores[1]


def test_what_was_spent_is_told_by_stage_and_only_for_what_was_computed(embedder, files, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    cache.embed(embedder, files)
    spent = asdict(cache.timings)
    assert set(spent) == {"hash", "decode", "cut", "wait", "find", "embed"}
    assert all(seconds > 0 for seconds in spent.values())
    cache.embed(embedder, files)
    again = asdict(cache.timings)
    assert again.pop("hash") > spent.pop("hash")
    assert again == spent
