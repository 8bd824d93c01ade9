"""Artefacts are written whole or not at all, and are current only while whole."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.artifacts import (
    Manifest,
    canonical_json,
    file_hashes,
    is_current,
    read_manifest,
    require_folder,
    require_space,
    stage_key,
    sweep_unfinished,
    whole_folder,
    write_changed,
    write_manifest,
    write_whole,
)
from limner.errors import DiskError
from tests.recorded import photos

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_keys_do_not_depend_on_the_order_of_names(settings):
    turned = dict(reversed(list(settings.items())))
    assert canonical_json(settings) == canonical_json(turned)
    assert stage_key("train", 1, settings, {}) == stage_key("train", 1, turned, {})


def test_keys_differ_by_stage_version_settings_and_inputs():
    keys = {
        stage_key("a", 1, {}, {}), stage_key("b", 1, {}, {}), stage_key("a", 2, {}, {}),
        stage_key("a", 1, {"x": 1}, {}), stage_key("a", 1, {}, {"x": 1}),
    }  # fmt: skip
    assert len(keys) == 5


def test_an_interrupted_file_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_whole(path, b"old")
    monkeypatch.setattr("os.fsync", _disk_full)
    with pytest.raises(DiskError, match="no space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what a handle is of cannot be asked here")
def test_the_folder_is_synced_after_a_rename_and_the_content_before(tmp_path, monkeypatch):
    """Else a crash of the machine could lose the new name, or keep the name and lose the content."""
    synced: list[tuple[Path, bool]] = []

    def note(handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((path, (tmp_path / "scores.json").exists() or (tmp_path / "photos").exists()))

    monkeypatch.setattr("os.fsync", note)
    write_whole(tmp_path / "scores.json", b"new")
    (file, before), (folder, after) = synced
    assert (file.name.startswith(".unfinished-"), before) == (True, False)
    assert (folder, after) == (tmp_path, True)
    (tmp_path / "scores.json").unlink()
    synced.clear()
    with whole_folder(tmp_path / "photos") as new:
        (new / "0000.png").write_bytes(b"crop")
    assert synced == [(new / "0000.png", False), (new, False), (tmp_path, True)]
    synced.clear()
    with whole_folder(tmp_path / "photos") as newer:
        (newer / "0000.png").write_bytes(b"another crop")
    assert synced[-1] == (tmp_path, True)


def test_an_interrupted_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "photos"
    with whole_folder(folder) as new:
        (new / "0000.png").write_bytes(b"first")
    with pytest.raises(KeyboardInterrupt):
        _write_and_be_interrupted(folder)
    assert (folder / "0000.png").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_take_its_place_gives_it_back(tmp_path, monkeypatch):
    folder, rename = tmp_path / "run", Path.replace
    with whole_folder(folder) as first:
        (first / "a").write_text("old")

    def refuse_new(path, target):
        if (path / "b").is_file():
            raise OSError(errno.EIO, "input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse_new)
    with pytest.raises(OSError, match="input/output"), whole_folder(folder) as second:
        (second / "b").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_an_interrupted_folder_takes_the_folders_made_for_it_along(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write_and_be_interrupted(tmp_path / "runs" / "new" / "photos")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_not_change_is_left_alone(tmp_path):
    path = tmp_path / "study.toml"
    write_changed(path, b"one")
    before = path.stat().st_ino  # a written file is a new one
    write_changed(path, b"one")
    assert path.stat().st_ino == before
    write_changed(path, b"two")
    assert path.read_bytes() == b"two"


def test_current_means_same_key_and_every_file_whole(tmp_path):
    folder = tmp_path / "photos"
    with whole_folder(folder) as new:
        (new / "0000.png").write_bytes(b"crop")
        write_manifest(new, Manifest("prepare", 1, "key", {}, {}, file_hashes(new), record=photos(["0000.png"])))
    assert is_current(folder, "key")
    assert not is_current(folder, "other")
    assert read_manifest(folder).record == photos(["0000.png"])
    (folder / "0000.png").write_bytes(b"cr")
    assert not is_current(folder, "key")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"stage": 1}', "null"])
def test_a_damaged_manifest_is_no_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert read_manifest(tmp_path) is None
    assert not is_current(tmp_path, "key")


def test_what_an_interruption_left_is_swept_away(tmp_path):
    (tmp_path / "renders").mkdir()
    (tmp_path / "renders" / ".unfinished-abc").write_bytes(b"half")
    (tmp_path / "renders" / "42.png").write_bytes(b"whole")
    sweep_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "renders").iterdir()] == ["42.png"]


def test_no_space_and_a_file_in_the_way_are_said_before_work_starts(tmp_path):
    with pytest.raises(DiskError, match="MiB free"):
        require_space(tmp_path / "runs" / "new", 10**18)
    (tmp_path / "taken").write_text("")
    with pytest.raises(DiskError, match="is a file"):
        require_folder(tmp_path / "taken" / "run")
    require_folder(tmp_path / "fine" / "run")
    assert not (tmp_path / "fine").exists()


def _write_and_be_interrupted(folder):
    with whole_folder(folder) as new:
        (new / "0000.png").write_bytes(b"second")
        raise KeyboardInterrupt


def _disk_full(handle):
    raise OSError(errno.ENOSPC, "No space left on device")
