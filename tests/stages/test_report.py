"""The report stage: whole, current, and never half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.artifacts import file_hashes, read_manifest, write_scores
from limner.errors import LimnerError
from limner.stages.report import report
from tests.reporting.made_up import RAW, MadeUpRun, rewrite_manifest, write_run
from tests.reporting.reading import Page


@pytest.fixture
def made(tmp_path: Path) -> MadeUpRun:
    return write_run(tmp_path / "run", photos=2)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_writes_page_markdown_and_every_picture_and_names_them_in_its_manifest(made):
    page = report(*made.arguments, made.run / "report")
    assert page == made.run / "report" / "index.html"
    manifest = read_manifest(page.parent)
    assert manifest is not None
    assert manifest.files == file_hashes(page.parent)
    assert made.controls is not None
    pictures = len(made.renders.cells) + len(made.controls.cells) + 2 * 2 + len(made.photo_set.files)
    assert len([name for name in manifest.files if name.endswith(".png")]) == pictures
    for cell in made.renders.cells:
        copied = page.parent / "images" / "renders" / cell.file
        assert copied.read_bytes() == made.renders.path(cell).read_bytes()


def test_a_second_run_does_nothing_and_a_damaged_page_is_written_again(made):
    page = report(*made.arguments, made.run / "report")
    before = times(page.parent)
    report(*made.arguments, made.run / "report")
    assert times(page.parent) == before
    whole = page.read_bytes()
    page.write_text("cut off")
    report(*made.arguments, made.run / "report")
    assert len(page.read_bytes()) == len(whole)


def test_new_scores_new_origins_and_a_new_render_set_each_make_it_new(made):
    def written() -> str:
        fresh = MadeUpRun(
            made.run, made.study, made.photo_set, made.adapters,
            type(made.renders)(made.renders.folder), made.controls, type(made.scores)(made.scores.path),
        )  # fmt: skip
        page = report(*fresh.arguments, made.run / "report")
        manifest = read_manifest(page.parent)
        assert manifest is not None
        return manifest.key

    keys = [written()]
    write_scores(made.scores.path, made.scores.record.model_copy(update={"notes": ["whole pictures are compared"]}))
    keys.append(written())
    (made.run / "study.lock.json").write_text('{"origins": {"render": {"steps": "limner.json"}}}')
    keys.append(written())
    rewrite_manifest(made.renders, lambda record: record.update(key="another"))
    keys.append(written())
    assert len(set(keys)) == 4


def test_the_lock_files_origins_stand_beside_the_settings(made):
    (made.run / "study.lock.json").write_text('{"origins": {"render": {"steps": "limner.json of the base"}}}')
    page = Page(report(*made.arguments, made.run / "report"))
    assert "limner.json of the base" in page.text


def test_a_picture_that_is_gone_is_named_and_nothing_is_left_behind(made):
    gone = made.renders.path(made.renders.cells[3])
    gone.unlink()
    with pytest.raises(LimnerError, match="run the stage that makes it again") as caught:
        report(*made.arguments, made.run / "report")
    assert str(gone) in str(caught.value)
    assert not list(made.run.glob("report*"))
    assert not list(made.run.glob(".unfinished-*"))


def test_works_without_control(tmp_path):
    made = write_run(tmp_path / "run", raw={k: v for k, v in RAW.items() if k != "control"}, photos=1)
    page = Page(report(*made.arguments, made.run / "report"))
    assert "asks for no renders conditioned on reference pictures" in page.text
    assert "Edge agreement" not in page.text
    readme = (made.run / "report" / "README.md").read_text()
    assert "asks for no renders conditioned on reference pictures" in readme
