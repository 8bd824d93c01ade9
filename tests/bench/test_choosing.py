"""The comparison of rules for the checkpoint: its order of work, its parts of photos, and what it tells."""

from __future__ import annotations

import pytest

from bench.choosing import (
    HELD_OUT,
    TEST_PHOTOS,
    choosing_markdown,
    choosing_tables,
    chosen_steps,
    difference,
    early_stop,
    jobs_of,
    split_photos,
)
from limner.config import Validation
from limner.config.study import resolve_study
from limner.records import ValidationRecord
from limner.statistics import Described, Estimated
from tests.drawn import draw_subject

SETTINGS = Validation(every_steps=10, keep="best", neighbours=0)


def record(step, likeness, fidelity, loss):
    shares = {"likeness_share": likeness, "fidelity_share": fidelity, "copying_share": 0.0}
    return ValidationRecord(step=step, **shares, validation_loss=loss)


CURVE = [
    record(10, 0.3, 1.0, 0.1), record(20, 0.7, 0.9, 0.2), record(30, 0.7, 0.7, 0.3),
    record(40, 0.7, 0.6, 0.3), record(50, 0.7, 0.5, 0.3), record(60, 0.7, 0.4, 0.3),
]  # fmt: skip


def test_each_rule_takes_its_own_step():
    assert chosen_steps(CURVE, SETTINGS) == {"ours": 20, "last": 60, "loss": 10}
    assert early_stop(CURVE, SETTINGS) == (50, 20)


def row(subject, seed, ours, last, loss, method="lora"):
    def tested(value):
        return {"score": value, "halves": value, "likeness_share": value, "fidelity_share": 1.0, "copying_share": 0.0}

    return {
        "subject": subject, "method": method, "seed": seed, "steps": {"ours": 20, "last": 60, "loss": 10},
        "tested": {"ours": tested(ours), "last": tested(last), "loss": tested(loss)},
        "early": {"stopped": 30, "tested": tested(ours)},
    }  # fmt: skip


ROWS = [row(name, seed, 0.8 + n / 100, 0.7 - n / 50, 0.8 - n / 100) for n, name in enumerate("abcd") for seed in (0, 1)]


def test_differences_are_paired_over_subjects_and_seeds_do_not_count_twice():
    found = difference(ROWS, "last", "score")
    assert isinstance(found, Estimated)
    assert found.difference == pytest.approx(0.1 + 0.03 * 1.5)
    assert found.degrees_of_freedom == 3
    few = difference([one for one in ROWS if one["subject"] in "ab"], "last", "score")
    assert isinstance(few, Described)


def test_the_table_tells_what_is_shown_and_what_is_not():
    text = choosing_markdown(ROWS, 24, {"lora": 60, "full": 80})
    lines = [line for line in text.splitlines() if line.startswith("| both, as")]
    assert len(lines) == 1
    assert "0.815 | 0.670 | 0.785 | +0.145 [" in lines[0]
    assert "- 8 of 24 trainings done." in text
    assert "50% of the steps are taken" in text
    assert "### full" not in text
    assert "all methods" not in text
    level = [row(name, 0, 0.7, 0.7 + sign * 0.1, 0.7) for name, sign in zip("abcd", (1, -1, 1, -1), strict=True)]
    lines = choosing_markdown(level, 4, {"lora": 60}).splitlines()
    both_methods = next(line for line in lines if line.startswith("| both, as"))
    assert "*" not in both_methods


def test_methods_count_the_same_over_subjects_that_have_them_all():
    full = [row(name, 0, 0.4, 0.3, 0.1, method="full") for name in "abc"]
    text = choosing_markdown([*ROWS, *full], 24, {"lora": 60, "full": 80})
    part = text[text.index("### all methods") :]
    assert "3 subjects, 9 trainings" in part
    assert "| both, as the rule joins them | 0.605 | 0.490 | 0.445 |" in part


def test_subjects_come_first_seeds_second():
    jobs = jobs_of(["b", "a"], [0, 1], ["full", "lora"])
    assert [(job.subject, job.method, job.seeds) for job in jobs] == [
        ("a", "full", (0,)), ("a", "lora", (0, 1)), ("b", "full", (0,)), ("b", "lora", (0, 1)),
        ("a", "full", (1,)), ("b", "full", (1,)),
    ]  # fmt: skip
    assert [job.method for job in jobs_of(["a"], [0], ["lora"])] == ["lora"]


def test_test_photos_are_in_no_study(tmp_path):
    source = tmp_path / "subject"
    source.mkdir()
    for index in range(12):
        draw_subject((64, 64), index).save(source / f"{index}.png")
    study, test = split_photos(source, tmp_path / "parts")
    parts = [{file.name for file in folder.iterdir()} for folder in (study, test)]
    assert [len(part) for part in parts] == [12 - TEST_PHOTOS, TEST_PHOTOS]
    assert not parts[0] & parts[1]
    tables = choosing_tables(jobs_of(["a"], [0, 1], ["lora"])[0], study, "miniature", 480, {})
    resolved = resolve_study(tables, {})
    assert (resolved.prepare.held_out, resolved.variants[0].validation.every_steps) == (HELD_OUT, 48)
