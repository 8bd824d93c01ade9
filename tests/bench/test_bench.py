"""The bench's own arithmetic: rates from marks, TOML, kinds of kernels, one whole measurement of ours."""

import json
import tomllib

import pytest

from bench import studies
from bench.bases import TINY, write_base
from bench.kernels import kind_of
from bench.processes import ProcessFailedError, run_module
from bench.records import Record, steady_rate
from bench.studies import Ground, Training
from bench.table import Figure, Row, markdown
from bench.tables import SWEEP_RANKS, Bench, memory, summed
from bench.whole import composed_peer
from limner.opening import open_study


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    work = tmp_path_factory.mktemp("bench")
    return Ground(work, write_base(work / "tiny", TINY), 64, "cpu")


def test_the_warm_up_is_left_out_of_the_rate_and_told():
    marks = [(0, 103.0), (10, 150.0), *((10 + n, 150.0 + 2 * n) for n in range(1, 10))]
    rate = steady_rate(Record(100.0, 170.0, marks), warm_up_units=10)
    assert rate.seconds == (2.0, 2.0, 2.0)
    assert rate.warm_up_seconds == 30.0  # 50 seconds until the tenth unit, ten units' own time taken off


def test_a_run_too_short_for_its_windows_is_refused():
    with pytest.raises(ValueError, match="let it run longer"):
        steady_rate(Record(0.0, 9.0, [(1, 1.0), (2, 2.0), (3, 3.0)]), warm_up_units=1)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void pytorch_flash::flash_bwd_kernel<float>", "attention"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16", "convolutions"),
        ("void cudnn::ops::nchwToNhwcKernel<__half>", "copies and casts"),
        ("multi_tensor_apply_kernel<FusedAdam>", "optimizer and clipping"),
        ("void at::native::vectorized_elementwise_kernel<4>", "element-wise"),
        ("_step", "optimizer and clipping"),
        ("_sums_of_squares", "optimizer and clipping"),
        ("_sums_backward", "group norm"),
        ("_backward", "layer norm"),
        ("_add_and_normalise", "layer norm"),
        ("_column_sums", "reductions"),
        ("_gate_backward", "gated unit"),
        ("something new", "other"),
    ],
)
def test_kernels_are_sorted_by_kind(kernel, kind):
    assert kind_of(kernel) == kind


def test_the_studies_can_be_opened(ground):
    trainings = [Training("full", 3, prior=True), Training("lora", 3, ranks=(2, 4))]
    whole = studies.coursework_tables(ground, ground.work / "references")
    for number, tables in enumerate((studies.training_tables(ground, trainings), whole)):
        path = studies.write_study(ground.work / f"study-{number}", ground, tables)
        assert tomllib.loads(path.read_text())["prepare"]["size_px"] == 64
        assert open_study(path).study.variants[1].model_dump()["rank"] == ([2, 4], [2, 16, 128])[number]


def test_a_limner_process_is_measured(ground):
    tables = studies.training_tables(ground, [Training("lora", 6, ranks=(2, 4))])
    study = studies.write_study(ground.work / "run", ground, tables)
    arguments = [study, ground.work / "run" / "out", "--every", 2, "--device", "cpu"]
    record = run_module("bench.ours", ground.work / "run" / "record.json", arguments)
    assert record.total_units in (6, 12)  # steps of both ranks together, or of one after the other
    assert record.marks[-1][0] == record.total_units
    assert record.started < record.marks[0][1] < record.marks[-1][1] < record.ended
    assert record.resident_bytes > 100 * 2**20


def test_a_script_is_observed_unchanged(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)\n"
        "for _ in range(int(sys.argv[1])): optimizer.step()\n"
    )
    assert [units for units, _ in run_module("bench.observed", tmp_path / "record.json", [script, 3]).marks] == [
        1,
        2,
        3,
    ]
    script.write_text("raise SystemExit('no class images')")
    with pytest.raises(ProcessFailedError, match="no class images"):
        run_module("bench.observed", tmp_path / "record.json", [script])


def test_ranks_of_the_peer_that_were_not_measured_count_as_the_fastest_and_are_told():
    sides = {2: Figure((0.14, 0.15, 0.16), 9.0, 20.0, 2**30), 256: Figure((0.2, 0.2, 0.2), 9.0, 20.0, 2**31)}
    whole = summed(sides, "tf32")
    assert whole.median == pytest.approx(6 * 0.15 + 0.2)
    assert whole.reserved_bytes == 2**31
    assert "ranks 4, 8, 16, 64, 128 were not measured and count as the fastest of [2, 256]" in whole.note
    of_all = summed({rank: Figure((0.1,)) for rank in SWEEP_RANKS}, "tf32")
    assert of_all.median == pytest.approx(0.7)
    assert "not measured" not in of_all.note


def test_least_memory_gives_up_what_costs_memory(ground, monkeypatch):
    asked = {}

    def run_ours(bench, name, tables, **more):
        asked[name] = tables
        raise ProcessFailedError("enough")

    monkeypatch.setattr(Bench, "run_ours", run_ours)
    rows = memory(Bench(ground, None))
    assert [row.ours for row in rows] == [None, None]
    full, lora = (asked[f"{method}-1-least"] for method in ("full", "lora"))
    assert full["variants"][0]["master_weights"] == "none"
    assert full["variants"][0]["optimizer"] == "adamw8bit"
    for tables in (full, lora):
        assert tables["memory"] == {"offload": True, "vae_batch_size": 1}
        assert tables["variants"][0]["gradient_checkpointing"]
        assert not tables["variants"][0]["prior_preservation"]


def test_the_peers_coursework_is_composed_only_from_this_gpus_figures(tmp_path):
    works = {
        "DreamBooth step, batch 1 + 1, peer in bf16": 0.4,
        "DreamBooth step, batch 1 + 1, peer in tf32": 0.3,
        "LoRA step, rank 16, batch 1, peer in bf16": 0.1,
        "a picture of 768x512, batch 16": 0.5,
        "a ControlNet picture, batch 4": 1.0,
        "500 class images": 200.0,
    }
    rows = [{"work": work, "peer": {"seconds": [s]}, "machine": {"gpu": "A"}} for work, s in works.items()]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    peer = composed_peer(results, "A")
    assert peer is not None
    assert peer.median == pytest.approx(800 * 0.3 + 1500 * 0.1 + 36 * 0.5 + 12 * 1.0 + 200)
    assert composed_peer(results, "B") is None
    results.write_text(json.dumps(rows[0]))
    assert composed_peer(results, "A") is None


def test_the_table_says_ratio_memory_and_what_was_not_measured():
    ours = Figure((0.02, 0.025, 0.021), 9.0, reserved_bytes=2**30, context_bytes=2**29)
    text = markdown("Steps", [Row("a step", ours, Figure((0.2, 0.21, 0.22))), Row("another", ours, None, note="why")])
    assert "| a step | 21.0 ms [20.0 … 25.0] | 210.0 ms [200.0 … 220.0] | 10.0 | 1.00 GiB + 0.50 context |" in text
    assert "| another | 21.0 ms [20.0 … 25.0] | not measured |" in text
    assert "- another: why" in text


def test_the_table_of_ours_alone_says_what_was_predicted_and_nothing_of_a_peer():
    sides = [Figure((20.0,), reserved_bytes=gib * 2**30, predicted_bytes=3 * 2**29) for gib in (1, 2)]
    text = markdown("Peaks", [Row("full", sides[0], None, "s"), Row("lora", sides[1], None, "s"), Row("x", None, None)])
    assert "| work | ours | peak memory, ours | predicted |\n|---|---|---|---|" in text
    assert "| full | 20.0 s | 1.00 GiB | 1.50 GiB, 1.50 of it |" in text
    assert "| lora | 20.0 s | 2.00 GiB | 1.50 GiB, 0.75 of it |" in text
    assert "| x | not measured |  |  |" in text
    assert "peer" not in text
