"""One study over several subjects: each an ordinary run, pooled as they end; what fails is listed."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import tomli_w
from PIL import Image

from limner.artifacts import read_record
from limner.config.study import read_toml
from limner.errors import InputError
from limner.events import Failed
from limner.records import PooledRecord
from limner.running.record import EVENTS
from limner.subjects import find_subjects, pool_runs, run_subjects, subject_tables
from limner.subjects.folders import read_classes, write_others, write_study
from limner.subjects.processes import CUT, Job, run_jobs
from tests.drawn import write_photos

TEMPLATE = """
[subject]
photos = "photos"
class_noun = "cat"

[base]
model = "{base}"

[[variants]]
method = "lora"
rank = [1, 4]
steps = 2
checkpoint_every_steps = 0

[render]
seeds = [0, 1]

[[render.prompts]]
name = "photo"
prompt = "a photo of {{subject}}"

[[render.prompts]]
name = "class"
prompt = "a photo of {{class_noun}}"
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "all").mkdir(exist_ok=True)
        write_photos(tmp_path / "all" / name)
    return tmp_path / "all"


@pytest.fixture
def template(tmp_path, tiny_folder):
    file = tmp_path / "study.toml"
    file.write_text(TEMPLATE.format(base=tiny_folder), encoding="utf-8")
    return file


def test_subjects_are_run_pooled_and_found_current_again(folder, template, tmp_path):
    shutil.rmtree(folder / "two")
    (folder / "empty").mkdir()
    out = tmp_path / "runs"
    page = run_subjects(template, folder, out, device="cpu")
    record = json.loads((out / "pooled.json").read_text())
    assert [summary["subject"] for summary in record["subjects"]] == ["one"]
    assert "holds no photo" in record["faults"]["empty"]
    assert "holds no photo" in page.read_text()
    summary = record["subjects"][0]
    assert [row["name"] for row in summary["variants"]] == ["base", "lora-1", "lora-4"]
    assert summary["not_low"] == ["lora-4"]
    assert "rank 4 is no longer low" in page.read_text()
    assert set(summary["values"]["likeness/efficientnet-lite0"]["lora-1"]["0"]) == {"photo"}
    assert (out / "rank-likeness.svg").exists()
    assert (out / "one" / "adapters" / "lora-1").is_dir()
    adapters = {file: file.stat().st_mtime_ns for file in out.glob("*/adapters/*/*")}
    first = page.read_bytes()
    run_subjects(template, folder, out, device="cpu")
    assert adapters == {file: file.stat().st_mtime_ns for file in out.glob("*/adapters/*/*")}
    assert page.read_bytes() == first
    (out / "one" / "summary.json").write_text('{"subject": "one"}')
    pool_runs(out, "again", ["one"])
    assert "summary.json is damaged" in read_record(out / "pooled.json", PooledRecord).faults["one"]


def test_when_time_is_up_what_waits_is_not_begun(folder, template, tmp_path):
    out = tmp_path / "runs"
    page = run_subjects(template, folder, out, device="cpu", seconds=0.0)
    assert json.loads((out / "pooled.json").read_text())["faults"] == {"one": CUT, "two": CUT}
    assert "0 subjects" in page.read_text()
    assert not (out / "one" / "adapters").exists()


def test_a_run_that_fails_is_told_in_its_own_words_and_a_long_one_is_cut(template, folder, tmp_path):
    long = {**read_toml(template), "variants": [{"method": "lora", "steps": 100000}]}
    study = write_study(subject_tables(long, tmp_path, find_subjects(folder, "cat")[0]), tmp_path / "long")
    (tmp_path / "none").mkdir()
    of_before = Failed(task="train lora-1", error="LimnerError", message="this was another day")
    (tmp_path / "none" / EVENTS).write_text(of_before.model_dump_json() + "\n")
    jobs = [Job("long", study, tmp_path / "long"), Job("none", tmp_path / "none" / "none.toml", tmp_path / "none")]
    ended = {}
    for each in run_jobs(jobs, device="cpu", processes=2, deadline=time.monotonic() + 15):
        ended[each.name] = each.fault
    assert ended["long"] == CUT
    assert "there is no such file" in ended["none"] or ended["none"] == CUT  # where the machine is very slow


def test_class_nouns_come_from_a_table_beside_the_folders(folder):
    assert {each.class_noun for each in find_subjects(folder, "cat")} == {"cat"}
    with pytest.raises(InputError, match="no class noun for one, two"):
        find_subjects(folder)
    (folder / "subjects.csv").write_text("subject_name,class\none,stuffed animal\n")
    assert [each.class_noun for each in find_subjects(folder, "cat")] == ["stuffed animal", "cat"]
    (folder / "subjects.csv").write_text("subject_name,class\none\n")
    with pytest.raises(InputError, match="'one' is not a pair"):
        find_subjects(folder, "cat")


def test_dreambenchs_own_file_is_read(tmp_path):
    text = (
        "Classes\n\nsubject_name,class\nbackpack_dog,backpack\ncat2,cat\n\nPrompts\n\nprompt_list = [\n'a {0}, {1}'\n"
    )
    (tmp_path / "prompts_and_classes.txt").write_text(text)
    assert read_classes(tmp_path) == {"backpack_dog": "backpack", "cat2": "cat"}


def test_a_folder_without_subjects_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="this folder does not exist"):
        find_subjects(tmp_path / "none")
    with pytest.raises(InputError, match="holds no folders"):
        find_subjects(tmp_path, "cat")


def test_a_subjects_study_names_everything_by_its_whole_path(folder, tmp_path):
    for beside in ("class", "miniature", "own_vae"):  # the word miniature is limner's, whatever lies there
        (tmp_path / beside).mkdir()
    raw = {
        "base": {"model": "miniature", "vae": "own_vae"},
        "class_images": {"folder": "class"},
        "control": {"references": [{"name": "a", "image": "a.png"}]},
    }
    tables = subject_tables(raw, tmp_path, find_subjects(folder, "cat")[1])
    (tmp_path / "written.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    read = read_toml(tmp_path / "written.toml")
    assert read == tables
    assert read["subject"] == {"photos": str(folder / "two"), "class_noun": "cat"}
    assert read["class_images"]["folder"] == str(tmp_path / "class")
    assert read["base"] == {"model": "miniature", "vae": str(tmp_path / "own_vae")}
    assert read["control"]["references"][0]["image"] == str(tmp_path / "a.png")


def test_others_are_taken_in_turn_and_kept_as_long_as_they_are_the_same(tmp_path):
    class Photos:
        def __init__(self, name, count):
            (tmp_path / name).mkdir()
            self.files = [tmp_path / name / f"{n}.png" for n in range(count)]
            for n, file in enumerate(self.files):
                Image.new("RGB", (8, 8), (n, len(name), 0)).save(file)

    few, many = Photos("few", 2), Photos("many", 60)
    assert not write_others(tmp_path / "run", [few])
    assert write_others(tmp_path / "run", [few, many])
    written = sorted((tmp_path / "run" / "others").iterdir())
    assert len(written) == 48
    in_turn = [few.files[0], many.files[0], few.files[1], many.files[1], many.files[2]]
    assert [file.read_bytes() for file in written[:5]] == [file.read_bytes() for file in in_turn]
    before = written[0].stat().st_mtime_ns
    write_others(tmp_path / "run", [few, many])
    assert written[0].stat().st_mtime_ns == before
    shutil.copyfile(many.files[7], few.files[0])
    write_others(tmp_path / "run", [few, many])
    assert written[0].read_bytes() == many.files[7].read_bytes()
