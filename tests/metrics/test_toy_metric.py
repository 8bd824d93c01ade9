"""A metric that only this file knows is measured, shown, compared and pooled: a metric is one module."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.artifacts import ScoreTable
from limner.base import find_base
from limner.config import Measure
from limner.errors import InputError
from limner.measuring import base_mean
from limner.metrics import Measured, MeasureInputs, Metric, OfPictures, Words, all_metrics, register, registry
from limner.reporting import ReportInputs, write_report
from limner.reporting.columns import make_columns
from limner.reporting.conclusions import study_variants
from limner.reporting.pooled import Pooled, markdown_of
from limner.stages.measure import measure
from limner.statistics import Estimated, conclude
from limner.statistics.findings import AgainstBase
from limner.subjects.summary import scores_of, summarise, variants_of
from tests.reporting.made_up import RAW, MadeUpRun, write_run

NO_MODEL = "./no-such-folder"
STUDY = {
    **RAW,
    "variants": [
        {"method": "full", "name": "dreambooth", "steps": 40, "training_seeds": [0, 1, 2]},
        {"method": "lora", "rank": 4, "steps": 30, "training_seeds": [0, 1, 2]},
    ],
    "measure": {"likeness": [NO_MODEL], "prompt_fidelity": NO_MODEL},
    "report": {"language": "both"},
}


def brightness(files: list[Path]) -> list[float]:
    """Mean of each picture's pixels, from 0 to 1."""
    return [float(np.asarray(Image.open(file).convert("RGB")).mean() / 255) for file in files]


def measure_brightness(inputs: MeasureInputs) -> Measured:
    """Of every picture; beside the base's and the photos'."""
    values = brightness(inputs.files)
    of_photos = sum(brightness(inputs.photo_set.files)) / len(inputs.photo_set.files)
    floor = base_mean(inputs.pictures, values)
    return Measured(range(len(values)), values, "mean of all pixels", floor, of_photos, model="arithmetic")


BRIGHTNESS = Metric(
    "brightness",
    OfPictures(measure_brightness),
    {
        "en": Words("Brightness", "brightness", "light", "how bright the picture is. Higher is brighter."),
        "ru": Words("Яркость", "яркость", "свет", "насколько изображение светлое."),
    },
    better="higher",
    unit="share of white",
    decimals=2,
    shown=frozenset({"tables", "pictures", "control", "pooled"}),
    compared=True,
)


def draw(size: tuple[int, int], index: int) -> Image.Image:
    """The first two pictures of a set, which are the base's, are dark; of each later one brightness grows a little."""
    return Image.new("RGB", size, (40 + 60 * (index > 1) + index,) * 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder):
    """A run measured with the metric registered; after it the registry is as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_METRICS", dict(registry._METRICS))
        register(BRIGHTNESS)
        made = write_run(tmp_path_factory.mktemp("toy") / "run", raw=STUDY, draw=draw)
        made.scores.path.unlink()
        scores = measure(
            made.scores.path, made.photo_set, made.renders, None, made.study.subject,
            Measure(likeness=[NO_MODEL], prompt_fidelity=NO_MODEL), find_base(str(tiny_folder)), "cpu",
        )  # fmt: skip
        yield MadeUpRun(made.run, made.study, made.photo_set, made.adapters, made.renders, made.controls, scores)
    assert BRIGHTNESS not in all_metrics()


def test_it_is_measured_with_its_anchors(run):
    record = json.loads(run.scores.path.read_text())
    rows = [row for row in record["rows"] if row["metric"] == "brightness"]
    assert len(rows) == len(run.renders.cells)
    files = [run.renders.path(cell) for cell in run.renders.cells]
    assert [row["value"] for row in rows] == pytest.approx(brightness(files), abs=1e-6)
    anchors = record["anchors"]["brightness"]
    assert anchors["floor"] == pytest.approx(sum(brightness(files[:2])) / 2, abs=1e-6)
    assert anchors["ceiling"] == pytest.approx(sum(brightness(run.photo_set.files)) / 5)
    assert record["models"]["brightness"]["name"] == "arithmetic"


def test_both_reports_show_it_under_pictures_in_tables_and_in_the_glossary(run, tmp_path):
    write_report(ReportInputs(*run.arguments), tmp_path)
    page, markdown = (tmp_path / "index.html").read_text(), (tmp_path / "README.md").read_text()
    value = brightness([run.renders.path(run.renders.cells[0])])[0]
    assert f"<dt>light</dt><dd>{value:.2f}</dd>" in page
    assert f"light {value:.2f} |" in markdown
    for written in (page, markdown):
        assert "how bright the picture is. Higher is brighter." in written
        assert "насколько изображение светлое." in written
        assert "Brightness is higher for dreambooth than for the base, by 0.2" in written
        assert "Яркость у dreambooth выше, чем у базовой модели, на 0,2" in written
        assert "Brightness: ceiling 0." in written
    assert '<th scope="col" class="number">Brightness</th>' in page
    assert "| Brightness |" in markdown


def test_it_is_compared(run):
    variants = study_variants(run.study, make_columns(run.study, run.renders.cells))
    found = [each for each in conclude(ScoreTable(run.scores.path).record, variants) if isinstance(each, AgainstBase)]
    shown = {each.variant: each.difference for each in found if each.metric == "brightness"}
    assert set(shown) == {"dreambooth", "lora-4"}
    assert all(isinstance(each, Estimated) and each.is_shown and each.difference > 0.2 for each in shown.values())


def test_it_is_pooled_over_subjects(run):
    hashed = {"content_hash": "x"}
    lock = {"study": run.study.model_dump(mode="json"), "origins": {}, "source": "s.toml", "photos": hashed}
    (run.run / "study.lock.json").write_text(json.dumps({**lock, "base": {"name": "tiny", **hashed}}))
    summaries = [summarise(name, run.run) for name in ("one", "two", "three")]
    page = markdown_of(Pooled("toys", [scores_of(s) for s in summaries], variants_of(summaries), summaries))
    assert "brightness less the base's" in page
    row = next(line for line in page.splitlines() if line.startswith("| dreambooth |"))
    assert "+0.2" in row


def test_a_name_is_taken_once_and_an_unknown_one_is_refused(run):
    with pytest.raises(ValueError, match="brightness"):
        register(BRIGHTNESS)
    with pytest.raises(InputError, match=r'"darkness/x" is not one of the metrics likeness, .*brightness'):
        registry.metric_named("darkness/x")
