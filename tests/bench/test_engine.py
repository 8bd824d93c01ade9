"""What is ours alone, in its small form: the engine's rows and the cases of memory."""

import pytest
import torch

from bench import peaks
from bench.__main__ import ground_of, make_parser
from bench.bases import TINY, write_base
from bench.engine import Lengths, engine
from bench.pieces import Notices
from bench.studies import Ground
from bench.tables import Bench
from limner.base import find_base
from limner.memory import Parts, read_shapes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    work = tmp_path_factory.mktemp("engine")
    return Bench(Ground(work, write_base(work / "tiny", TINY), 64, "cpu"), None)


def test_every_row_of_the_engine_is_measured(bench):
    rows = engine(bench, Lengths(steps=1, batches=(4, 1), denoising_steps=2, class_batches=2))
    works = [row.work for row in rows]
    assert len(works) == len(set(works)) == 7
    assert [len(row.ours.seconds) for row in rows] == [3, 3, 3, 3, 3, 1, 3]
    assert all(min(row.ours.seconds) > 0 for row in rows)
    assert all(row.ours.resident_bytes > 100 * 2**20 for row in rows)
    assert all("set up in" in row.ours.note for row in rows[:3])
    assert rows[5].work == "8 class images with files"
    assert len(list((bench.ground.work / "runs" / "engine-class").glob("*.png"))) == 8


def test_a_peak_is_measured_in_a_process_of_its_own(bench, monkeypatch):
    monkeypatch.setattr(peaks, "CASES", {"lora-pictures": peaks.CASES["lora-pictures"]})
    [row] = peaks.peaks(bench)
    assert row.ours is not None
    assert row.ours.predicted_bytes > 0
    assert row.ours.resident_bytes > 100 * 2**20
    assert row.ours.seconds[0] > 1


@pytest.mark.parametrize("name", ["render-offload", "encode"])
def test_renders_and_encoding_are_cases_too(bench, tmp_path, name):
    parts = Parts(read_shapes(find_base(str(bench.ground.base))), photo_count=8)
    case = peaks.CASES[name]
    study = peaks.study_of(case, 64)
    peak = peaks.MEASURERS[case.kind](bench.ground.base, tmp_path, CPU, study, parts, Notices())
    assert peak.stage == {"render": "render", "encode": "train"}[case.kind]
    assert peak.bytes > 0
    made = {"render": ("grid/*.png", 32), "encode": ("cache/**/*.safetensors", 1)}[case.kind]
    assert len(list(tmp_path.glob(made[0]))) >= made[1]


def test_ours_alone_takes_a_tiny_base_on_a_processor_and_a_given_one_at_its_size(bench, tmp_path):
    options = make_parser().parse_args(["engine", "--device", "cpu", "--work", str(tmp_path)])
    assert ground_of(options).base == tmp_path / "tiny"
    options.base = bench.ground.base
    ground = ground_of(options)
    assert (ground.base, ground.size_px) == (bench.ground.base, 64)
