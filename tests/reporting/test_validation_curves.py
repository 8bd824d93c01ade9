"""The panel of validations: its lines, the chosen step, and what is not there."""

from __future__ import annotations

import re

from limner.reporting.validation_curves import LEFT, RIGHT, chosen_fact, validation_panel
from tests.recorded import adapter

CURVE = [
    {"step": 10, "likeness_share": 0.2, "fidelity_share": 1.0, "copying_share": 0.0, "validation_loss": 0.2},
    {"step": 20, "likeness_share": 0.6, "fidelity_share": 0.9, "copying_share": 0.0, "validation_loss": 0.1},
    {"step": 40, "likeness_share": 0.7, "fidelity_share": 0.3, "copying_share": 0.5, "validation_loss": 0.3},
]
CHOSEN = {"step": 20, "why": "best of 3 validated steps", "stopped_at": 40}


def panel(**record):
    return validation_panel("lora-2", adapter("lora-2", **{"validation": CURVE, "chosen": CHOSEN, **record}), "k1")


def test_every_curve_is_drawn_and_the_chosen_step_is_marked_where_it_is():
    svg = str(panel())
    assert svg.count('class="line k1"') == 4
    assert "step 20 kept" in svg
    assert f'd="M{(LEFT + RIGHT) / 2:.1f} ' in svg
    assert "least 0.1000 at step 20" in svg
    assert 'aria-label="lora-2: 3 validations, step 20 chosen"' in svg


def test_what_was_not_measured_is_not_drawn():
    without = [{**entry, "validation_loss": None, "copying_share": None} for entry in CURVE]
    svg = str(panel(validation=without, chosen=None))
    assert svg.count('class="line k1"') == 2
    assert "copies" not in svg
    assert "kept" not in svg
    assert panel(validation=CURVE[:1]) is None
    assert validation_panel("lora-2", adapter("lora-2"), "k1") is None


def test_lines_stay_within_the_panel_also_where_likeness_falls_below_the_base():
    below = [{**entry, "likeness_share": entry["likeness_share"] - 0.9} for entry in CURVE]
    numbers = re.findall(r'd="M([^"]+)" class="line', str(panel(validation=below)))
    ys = [float(pair.split(" ")[1]) for line in numbers for pair in line.split("L")]
    assert min(ys) >= 29.9
    assert max(ys) <= 208.1


def test_the_fact_says_which_step_and_why():
    assert chosen_fact(adapter("lora-2", chosen=CHOSEN)) == [
        "step 20 kept (best of 3 validated steps, training stopped after step 40)"
    ]
    assert chosen_fact(adapter("lora-2")) == []
