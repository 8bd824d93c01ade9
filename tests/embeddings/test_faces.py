"""Faces: found by YuNet, aligned, embedded, and left alone where there is none; the recogniser is of a few weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.base import BaseLocation
from limner.embeddings import EmbeddingCache, find_embedder
from limner.embeddings.faces import SFACE, SFACE_FILE, SIDE_PX, aligned_face
from limner.errors import EmbedderError
from limner.measuring.styles import put_through
from tests.embeddings.tiny_faces import draw_face, write_recogniser

ASTRONAUT = Path(__file__).parent / "pictures" / "astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recogniser(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def crop(folder):
    return aligned_face(folder / SFACE_FILE)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty hub cache, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return BaseLocation("none", tmp_path, "folder")


def test_a_face_is_cut_out_aligned_wherever_it_is_and_however_large(crop):
    first, found = crop.cut(draw_face((320, 320), (3, 4), "cheek"), SIDE_PX)
    assert found
    assert first.shape == (SIDE_PX, SIDE_PX, 3)
    for size, corner in (((320, 320), (5, 2)), ((640, 640), (3, 4)), ((320, 224), (2, 2))):
        moved, found = crop.cut(draw_face(size, corner, "cheek"), SIDE_PX)
        assert found
        assert np.abs(moved.astype(int) - first).mean() < 6
    other, _ = crop.cut(draw_face((320, 320), (3, 4), "chin"), SIDE_PX)
    assert np.abs(other.astype(int) - first).mean() > 12


def test_of_two_faces_the_larger_is_taken_and_without_one_none_is_found(crop):
    large = draw_face((320, 320), (5, 5), "chin", 8)
    both = np.concatenate([draw_face((320, 320), (3, 4), "cheek"), large], axis=1)
    chosen, found = crop.cut(both, SIDE_PX)
    assert found
    assert np.abs(chosen.astype(int) - crop.cut(large, SIDE_PX)[0]).mean() < 8
    blank, found = crop.cut(np.full((200, 300, 3), 90, np.uint8), SIDE_PX)
    assert not found
    assert not blank.any()
    assert crop.leaves_out


@pytest.mark.parametrize("change", [
    lambda picture: picture.resize((512, 512), Image.Resampling.LANCZOS),
    lambda picture: picture.crop((60, 0, 220, 160)),
    lambda picture: picture.rotate(-15, Image.Resampling.BICUBIC),
    lambda picture: picture.rotate(15, Image.Resampling.BICUBIC),
    lambda picture: Image.fromarray(put_through(np.asarray(picture), ["black and white"])),
])  # fmt: skip
def test_a_photographed_face_is_aligned_alike_turned_cut_and_resized(crop, change):
    with Image.open(ASTRONAUT) as picture:
        pixels = [np.asarray(picture), np.asarray(change(picture))]
    (straight, _), (aligned, found) = (crop.cut(image, SIDE_PX) for image in pixels)
    assert found
    assert np.corrcoef([face.mean(axis=2).ravel() for face in (straight, aligned)])[0, 1] > 0.8  # turned: unaligned 0.4


def test_several_threads_find_the_same(crop):
    pictures = [draw_face((320 + 32 * (i % 3), 320), (2 + i % 4, 3), "cheek") for i in range(24)]
    alone = [crop.cut(picture, SIDE_PX)[0] for picture in pictures]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda picture: crop.cut(picture, SIDE_PX)[0], pictures))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_folder_with_the_recognisers_file_is_an_embedder_of_faces(folder, nowhere):
    place = find_embedder(str(folder), nowhere)
    embedder = place.load_image()
    crop = place.required_crop()
    assert crop is not None
    faces = [crop.cut(draw_face((320, 320), (3, 4), mark), embedder.size_px)[0] for mark in ("cheek", "chin", "cheek")]
    vectors = embedder.embed(faces)
    assert vectors.shape == (3, 128)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    assert torch.equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.999
    assert embedder.embed([]).shape == (0, 128)
    assert embedder.identity == place.identity
    with pytest.raises(EmbedderError, match="embeds pictures only"):
        place.load_pair()


def test_other_weights_have_another_identity(folder, tmp_path, nowhere):
    other = write_recogniser(tmp_path / "other")
    before = find_embedder(str(other), nowhere).identity
    assert before == find_embedder(str(folder), nowhere).identity
    (other / SFACE_FILE).write_bytes((other / SFACE_FILE).read_bytes() + b"\0")
    assert find_embedder(str(other), nowhere).identity != before


def test_absent_models_are_named_with_how_to_get_them(nowhere):
    with pytest.raises(EmbedderError, match=rf"hf download opencv/face_recognition_sface {SFACE_FILE}"):
        find_embedder(SFACE, nowhere)


def test_a_pointer_in_place_of_a_file_is_named(tmp_path, nowhere):
    broken = write_recogniser(tmp_path / "broken")
    (broken / SFACE_FILE).write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(EmbedderError, match=f"{SFACE_FILE}.*download it again"):
        find_embedder(str(broken), nowhere).load_image()


def test_faces_are_cached_with_whether_they_were_found(folder, crop, tmp_path, nowhere):
    files = [tmp_path / "face.png", tmp_path / "none.png"]
    Image.fromarray(draw_face((320, 320), (3, 4), "chin")).save(files[0])
    Image.new("RGB", (320, 320), (90, 90, 90)).save(files[1])
    embedder = find_embedder(str(folder), nowhere).load_image()
    for _ in range(2):
        assert EmbeddingCache(tmp_path / "cache").embed(embedder, files, crop).found.tolist() == [True, False]
