"""The comparison of the fast path with the plain one: its verdict, and that the plain path is plain."""

from typing import Any

import pytest
import torch

from bench.quality import Comparison, compare, plain_path, quality_markdown, quality_tables
from bench.studies import write_toml
from limner.config import expand_variants
from limner.opening import open_study
from limner.progress import SILENT
from limner.training import setup
from tests.drawn import write_photos
from tests.tiny import write_tiny_base

SUBJECTS = ("a", "b", "c", "d")


def scores(shift: float, spread: float = 0.01):
    """Four subjects, three seeds: likeness moves with both, prompt fidelity with neither."""
    return {
        subject: {"full": {seed: (0.5 + 0.1 * n + shift + spread * (seed - 1), 0.3) for seed in (0, 1, 2)}}
        for n, subject in enumerate(SUBJECTS)
    }


@pytest.mark.parametrize(("shift", "agrees"), [(0.0, True), (0.009, True), (0.011, False), (-0.011, False)])
def test_paths_agree_when_they_differ_by_less_than_seeds_do(shift, agrees):
    likeness, fidelity = compare(scores(shift), scores(0.0))
    assert (likeness.method, likeness.metric, likeness.agrees) == ("full", "likeness", agrees)
    assert likeness.fast - likeness.plain == pytest.approx(shift)
    assert likeness.spread == pytest.approx(0.01)  # of one subject's seeds: how subjects differ is not counted
    assert likeness.largest == pytest.approx(shift)
    assert fidelity.agrees
    assert fidelity.spread == pytest.approx(0.0)


def test_one_subject_that_goes_the_other_way_is_told():
    fast = scores(0.0)
    fast["c"]["full"] = {seed: (values[0] - 0.02, values[1]) for seed, values in fast["c"]["full"].items()}
    assert compare(fast, scores(0.0))[0].largest == pytest.approx(-0.02)


def test_the_table_says_which_metric_differs():
    rows = [
        Comparison("full", "likeness", 0.52, 0.5, 0.01, 0.03),
        Comparison("full", "prompt fidelity", 0.3, 0.3, 0.01, 0.0),
    ]
    text = quality_markdown(rows, SUBJECTS, {"fast": 1.0, "plain": 2.0})
    assert "| full | likeness | 0.5200 | 0.5000 | +0.0200 | 0.0100 | +0.0300 | DIFFER |" in text
    assert "| full | prompt fidelity | 0.3000 | 0.3000 | +0.0000 | 0.0100 | +0.0000 | agree |" in text
    assert "The paths do NOT agree" in text
    assert "does not count" not in text
    assert "does not count" in quality_markdown(rows, SUBJECTS[:3], {})


def test_the_studies_of_both_paths_differ_in_precision_alone(tmp_path):
    base = write_tiny_base(tmp_path / "base")
    photos = write_photos(tmp_path / "photos")
    studies = {}
    for path in ("fast", "plain"):
        file = write_toml(tmp_path / path, quality_tables(photos, str(base), 3, path))
        studies[path] = open_study(file).study
    fast, plain = (studies[path].model_dump(mode="json") for path in ("fast", "plain"))
    assert len(expand_variants(studies["fast"].variants)) == 6
    assert [variant["precision"] for variant in plain["variants"]] == ["fp32", "fp32"]
    for tables in (fast, plain):
        for table in [*tables["variants"], tables["render"]]:
            del table["precision"]
    assert fast == plain


def test_the_plain_path_is_plain_and_leaves_nothing_behind():
    from limner.kernels import available
    from limner.training import loop

    step: Any = object()
    own = (setup.fused, loop.captured, available._installed, torch.backends.cudnn.allow_tf32)
    with plain_path():
        assert loop.captured(step, "label", SILENT) is step
        assert not available._installed()
        assert not torch.backends.cudnn.allow_tf32
        network = torch.nn.Linear(1, 1)
        with setup.fused(network, everywhere=True):
            assert "forward" not in vars(network)
    assert own == (setup.fused, loop.captured, available._installed, torch.backends.cudnn.allow_tf32)
