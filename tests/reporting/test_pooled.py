"""The page of many subjects and DreamBench's table, from summaries whose figures are known."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from limner.records import PooledRecord, SubjectSummary
from limner.reporting.dreambench import dreambench_markdown
from limner.reporting.pooled import Pooled, markdown_of
from limner.reporting.pooled_chart import rank_chart
from limner.subjects.summary import scores_of, variants_of

DINO, CLIP = "likeness/facebook/dino-vits16", "likeness/openai/clip-vit-base-patch32"
CLIP_T = "prompt_fidelity/openai/clip-vit-base-patch32"
METRICS = {"DINO": DINO, "CLIP-I": CLIP, "CLIP-T": CLIP_T}
SWEEP = {"settings": "the rest", "alpha_rule": "alpha = rank", "alpha": None}


def summary(place, *, seeds=3):
    """Subject `place`: the base scores 0.4, full 0.7, LoRAs 0.5 and 0.6; each a little more in later subjects."""

    def values(level):
        return {str(seed): {"in the snow": level + 0.01 * place + 0.001 * seed * place} for seed in range(seeds)}

    levels = {"full": 0.7 + 0.005 * (place % 3), "lora-4": 0.5, "lora-128": 0.6}
    rows = [{"name": "base", "rank": None, "learning_rate": None, "training_seeds": [], "sweep": None}]
    rows += [
        {"name": n, "rank": r, "learning_rate": 1e-4, "training_seeds": [0, 1, 2], "sweep": SWEEP if r else None}
        for n, r in (("full", None), ("lora-4", 4), ("lora-128", 128))
    ]
    base = {"": {"in the snow": 0.4 + 0.02 * place}}
    of_all = {"base": base} | {name: values(level) for name, level in levels.items()}
    others = {"origin": "photos", "pictures": 8, "real": True}
    anchors = {"floor": 0.4, "ceiling": 0.8 + 0.01 * place, "power": {}, "power_others": others}
    anchors |= {"class_prompts": [], "unrelated_prompts": []}
    likeness = {**anchors, "power": {"in the snow": 0.9}}
    used = {"status": "used", "note": ""}
    raw = {
        "subject": f"dog{place}", "class_noun": "dog", "photos": 5, "held_out_photos": 0, "pictures": 100,
        "pictures_a_mean": 4, "prompts": {"in the snow": "a {subject} in the snow"}, "variants": rows,
        "not_low": ["lora-128"], "notices": ["lora-128: rank 128 is no longer low"], "machine": {}, "device": "cpu",
        "models": {DINO: {**used, "name": "facebook/dino-vits16"}, CLIP_T: {**used, "name": CLIP.partition("/")[2]}},
        "anchors": {DINO: likeness, CLIP: likeness, CLIP_T: anchors},
        "values": {DINO: of_all, CLIP: of_all, CLIP_T: of_all},
        "copies": {"copying/x": {"base": [0, 4], "full": [1, 12]}},
    }  # fmt: skip
    return SubjectSummary.from_json(raw)


def pooled(count, faults=None):
    summaries = [summary(place) for place in range(count)]
    return Pooled("cats", [scores_of(s) for s in summaries], variants_of(summaries), summaries, faults or {})


def test_the_page_says_subjects_with_intervals_and_names_what_failed():
    page = markdown_of(pooled(8, {"cat9": "no photo"}), "chart.svg")
    assert "8 subjects" in page
    assert "training seeds," not in page
    assert "cat9: no photo" in page
    assert "rank 128 is no longer low" in page
    assert "(chart.svg)" in page
    assert "is higher for full than for lora-4, by 0.20" in page
    row = next(line for line in page.splitlines() if line.startswith("| full |"))
    assert "+0.2" in row
    assert " to " in row
    assert "8 of 96 (8.3%)" in row
    assert "| dog7 | 5 | 0.540 | 0.870 |" in page


def test_fewer_than_three_subjects_are_described_only():
    page = markdown_of(pooled(2))
    assert "descriptive only" in page
    assert "interval" not in page.partition("## Variants")[0].partition("## Conc")[2]


def test_without_a_subject_the_page_still_says_why():
    page = markdown_of(Pooled("cats", [], [], [], {"one": "no photo"}))
    assert "0 subjects" in page
    assert "one: no photo" in page
    assert rank_chart(Pooled("cats", [], [], [])) == ""


def test_the_chart_is_one_drawing_that_marks_ranks_that_are_not_low():
    root = ElementTree.fromstring(rank_chart(pooled(8)))
    marks = [each for each in root.iter() if each.tag.endswith("circle")]
    assert [mark.get("class") for mark in marks] == ["mark", "check"]
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert {"4", "128", "rank", "the base", "real photos", "full"} <= set(texts)
    assert float(marks[0].get("cy")) > float(marks[1].get("cy"))  # 0.5 stands below 0.6


def test_dreambenchs_table_is_the_mean_over_subjects_beside_the_published_figures():
    subjects = [summary(place, seeds=1) for place in range(4)]
    record = PooledRecord(title="DreamBench", subjects=subjects, faults={})
    page = dreambench_markdown(record, METRICS, {})
    assert "| real photos | 0.815 (" in page
    assert "| full | 0.719 (" in page
    assert "| base | 0.430 (" in page
    assert "| DreamBooth (Stable Diffusion) | 0.668 | 0.803 | 0.305 |" in page
    assert "| Real images | 0.774 | 0.885 | – |" in page


@pytest.mark.parametrize("stand_ins", [{"DINO": "efficientnet-lite0", "CLIP-I": "base", "CLIP-T": "base"}])
def test_a_stand_in_is_called_by_its_own_name(stand_ins):
    record = PooledRecord(title="DreamBench", subjects=[summary(place) for place in range(4)], faults={"x": "cut"})
    page = dreambench_markdown(record, METRICS, stand_ins)
    ours = page.partition("Published")[0]
    assert "DINO" not in ours
    assert "CLIP-I" not in ours
    assert "ViT" not in ours
    assert "efficientnet-lite0, subject fidelity" in ours
    assert "the base's own CLIP, prompt fidelity" in ours
    assert "cannot be compared with the published ones" in page
    assert "x (cut)" in page


def test_prompt_fidelity_is_of_prompts_that_name_the_subject():
    raw = summary(0).to_json()
    raw["anchors"]["drift/x"] = raw["anchors"][CLIP_T] | {"unrelated_prompts": ["a house"]}
    for seeds in raw["values"][CLIP_T].values():
        for means in seeds.values():
            means["a house"] = 0.0
    one = SubjectSummary.from_json(raw)
    assert scores_of(one).values[CLIP_T]["full"]["0"] == {"in the snow": 0.7}
    assert "a house" in one.values[CLIP_T]["full"]["0"]
