"""Class images: made, topped up, kept, brought along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.artifacts import read_manifest
from limner.config import ClassImages, Subject
from limner.errors import DiskError, InputError
from limner.stages.class_images import make_class_images, sizes_in_turn
from limner.stages.context import Context
from tests.rendering.folders import Recorder, never, pngs

SUBJECT = Subject(photos="photos", identifier="sks", class_noun="cat")


@pytest.fixture
def stage(tiny_base, tmp_path):
    class Stage:
        out = tmp_path / "class"

        def __call__(self, base=None, progress=None, size_px=64, out=None, shapes=None, **more):
            settings = ClassImages(**{"count": 3, "steps": 2, "batch_size": 2, **more})
            base, progress = base or (lambda: tiny_base), progress or Recorder()
            context = Context(SUBJECT, base, "hash", progress=progress)
            return make_class_images(context, settings, size_px, out or self.out, shapes=shapes)

    return Stage()


def test_the_class_prompt_names_the_class_and_never_the_subject(stage):
    result = stage()
    assert result.prompt == "a photo of cat"
    assert stage(prompt="a photo of {subject}", base=never).prompt == "a photo of cat"  # which reads the same
    assert [path.name for path in result.files] == ["0000.png", "0001.png", "0002.png"]
    assert all(Image.open(path).size == (64, 64) for path in result.files)
    assert len({path.read_bytes() for path in result.files}) == 3
    images = [image.to_json() for image in read_manifest(stage.out).record.images]
    assert [(image["file"], image["index"], len(image["key"])) for image in images][1] == ("0001.png", 1, 64)


def test_a_second_run_loads_nothing(stage):
    stage()
    before, progress = pngs(stage.out), Recorder()
    stage(base=never, progress=progress, batch_size=3)
    assert pngs(stage.out) == before
    assert progress.tasks == []


def test_topping_up_keeps_what_is_there(stage, tmp_path):
    stage()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in stage.out.glob("*.png")}
    progress = Recorder()
    result = stage(count=7, progress=progress)
    assert (len(result.files), progress.units) == (7, 4)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    at_once = stage(count=7, out=tmp_path / "at once")
    for path, same in zip(result.files, at_once.files, strict=True):  # 0002 was in a smaller batch
        difference = np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(same))
        assert np.abs(difference).max() <= (1 if path.name == "0002.png" else 0)


def test_fewer_leave_the_rest_on_disk_and_out_of_the_set(stage):
    more = stage(count=5)
    fewer = stage(count=2, base=never)
    assert len(fewer.files) == 2
    assert list(read_manifest(stage.out).files) == ["0000.png", "0001.png"]
    assert len(pngs(stage.out)) == 5
    again = stage(count=5, base=never)
    assert again.content_hash == more.content_hash


def test_an_interrupted_set_goes_on(stage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stage(count=5, progress=Recorder(interrupt_after=2))
    assert (len(pngs(stage.out)), read_manifest(stage.out)) == (2, None)
    progress = Recorder()
    stage(count=5, progress=progress)
    assert progress.units == 3
    assert pngs(stage.out) == pngs(stage(count=5, out=tmp_path / "whole").folder)


@pytest.mark.parametrize("change", [{"prompt": "a sketch of a {class_noun}"}, {"seed": 1}, {"steps": 3}])
def test_another_request_makes_all_anew(stage, change):
    stage()
    before, progress = pngs(stage.out), Recorder()
    stage(progress=progress, **change)
    assert progress.units == 3
    assert all(before[name] != content for name, content in pngs(stage.out).items())


def test_none_asked_for_loads_nothing(stage):
    assert stage(count=0, base=never).files == []


def test_your_own_pictures_are_centred_squares_without_a_models_mark(stage, photo_folder):
    (photo_folder / "notes.txt").write_text("not a picture")
    result = stage(base=never, folder=photo_folder, count=4)
    assert len(result.files) == 4
    with Image.open(photo_folder / "photo-0.png") as source, Image.open(result.files[0]) as own:
        assert set(own.info) == {"limner"}
        box = ((source.width - source.height) // 2, 0, (source.width + source.height) // 2, source.height)
        wanted = source.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS, box=box)
        assert np.abs(np.asarray(own).astype(int) - np.asarray(wanted)).max() <= 1
    before = pngs(stage.out)
    assert stage(base=never, folder=photo_folder, count=4).content_hash == result.content_hash
    assert pngs(stage.out) == before


def test_a_turned_photo_is_put_upright(stage, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste("blue", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(folder / "turned.png", exif=exif)
    result = stage(base=never, folder=folder, count=1)
    assert np.asarray(Image.open(result.files[0]))[0, 0].tolist() == [255, 0, 0]


def test_too_few_pictures_are_counted(stage, photo_folder, tmp_path):
    with pytest.raises(InputError, match="holds 5 pictures that can be used and count is 6"):
        stage(base=never, folder=photo_folder, count=6)
    assert not stage.out.exists()
    (photo_folder / "photo-1.png").write_bytes(b"damaged")
    progress = Recorder()
    with pytest.raises(InputError, match="holds 4 pictures that can be used and count is 5"):
        stage(base=never, folder=photo_folder, count=5, progress=progress)
    assert any("left out  photo-1.png" in notice for notice in progress.notices)
    with pytest.raises(InputError, match="is not there"):
        stage(base=never, folder=tmp_path / "nowhere")


def test_a_file_in_the_way(stage):
    stage.out.write_text("in the way")
    with pytest.raises(DiskError, match="is a file"):
        stage(base=never)


SHAPES = {(64, 128): 1, (64, 64): 2, (128, 64): 3}


@given(
    shares=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    count=st.integers(0, 120),
    more=st.integers(0, 40),
)
def test_sizes_come_in_proportion_and_topping_up_changes_none(shares, count, more):
    sizes = {(8 * width, 8): share for width, share in enumerate(shares, 1)}
    if 0 < count < len(sizes):
        with pytest.raises(InputError, match=f"count is {count} and the photos have {len(sizes)} shapes"):
            sizes_in_turn(sizes, count)
        return
    taken = sizes_in_turn(sizes, count)
    assert len(taken) == count
    assert sizes_in_turn(sizes, count + len(sizes) + more)[:count] == taken
    for size, share in sizes.items():
        assert taken.count(size) >= min(count, 1)
        assert abs(taken.count(size) - count * share / sum(shares)) < len(sizes) + 1


def test_pictures_of_several_shapes_share_the_count_and_are_topped_up(stage):
    made = stage(shapes=SHAPES, count=4)
    sizes = [Image.open(path).size for path in made.files]
    assert set(sizes) == set(SHAPES)
    for size in SHAPES:
        assert [Image.open(path).size for path in made.files_of(size)] == [size] * sizes.count(size)
    before, progress = pngs(stage.out), Recorder()
    more = stage(shapes=SHAPES, count=7, progress=progress)
    assert progress.units == 3
    assert {name: pngs(stage.out)[name] for name in before} == before
    assert sorted(Image.open(path).size for path in more.files) == [
        (64, 64), (64, 64), (64, 128), (128, 64), (128, 64), (128, 64), (128, 64),
    ]  # fmt: skip
    twice = {size: 2 * share for size, share in SHAPES.items()}
    assert stage(shapes=twice, count=7, base=never).content_hash == more.content_hash


def test_squares_are_what_they_were_before_there_were_shapes(stage):
    before = stage()
    key = before.manifest.key
    stamp = before.folder.joinpath("manifest.json").stat().st_mtime_ns
    again = stage(shapes={(64, 64): 5}, base=never)
    assert again.manifest.key == key
    assert before.folder.joinpath("manifest.json").stat().st_mtime_ns == stamp
    assert again.record.images[0].size is None
    assert set(again.manifest.settings) == {
        "count", "prompt", "sampler", "steps", "guidance_scale", "negative_prompt", "seed", "size_px",
    }  # fmt: skip


def test_your_own_pictures_are_cut_to_the_shapes(stage, photo_folder):
    result = stage(base=never, folder=photo_folder, count=5, shapes=SHAPES)
    assert {Image.open(path).size for path in result.files} == set(SHAPES)
    assert [image.size for image in result.record.images] == [Image.open(path).size for path in result.files]
    with pytest.raises(InputError, match="count is 2 and the photos have 3 shapes"):
        stage(base=never, folder=photo_folder, count=2, shapes=SHAPES)
