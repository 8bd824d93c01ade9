"""Which subject likeness names: by heads, by whole pictures, and like for like."""

from __future__ import annotations

import pytest
import torch

from bench.recognition import Pictures, Subject, _named, _photos_named, _renders_row
from limner.artifacts import Cell


def pictures(heads: list[list[float]], whole: list[list[float]], found: list[bool]) -> Pictures:
    def unit(rows: list[list[float]]) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1)

    return Pictures(unit(heads), torch.tensor(found), unit(whole))


def subject(name: str, own: list[float], other: list[float], renders: Pictures) -> Subject:
    """Two photos whose heads look like `own` and whose whole pictures look like `other`."""
    photos = pictures([own, own], [other, other], [True, True])
    count = len(renders.cut)
    cells = [
        Cell(variant="full", prompt="photo", seed=seed, image_index=0, file=f"{seed}.png", text="", size=(8, 8))
        for seed in range(count)
    ]
    return Subject(name, photos, photos, renders, cells)


def test_a_render_goes_to_the_nearest_subject_and_the_lead_is_told():
    named = _named(torch.tensor([[0.5, 0.3], [0.2, 0.6], [0.4, 0.4]]), torch.tensor([0, 0, 1]))
    assert named.right == pytest.approx(1 / 3)  # a draw is not named
    assert named.lead == pytest.approx((0.2 - 0.4 + 0.0) / 3)
    assert named.count == 3


def test_heads_and_whole_pictures_may_name_different_subjects():
    """The first subject's photos look whole like the second's heads and the other way round."""
    first, second = [1.0, 0.0], [0.0, 1.0]
    seen = pictures([first, first], [second, first], [True, False])
    subjects = [subject("a", first, second, seen), subject("b", second, first, pictures([second], [first], [True]))]
    row = _renders_row(subjects, "full", "photo")
    # a's first render by its head: right; its second has none and whole it looks like b. b's render: right by both
    assert row == "| full | photo | 3 | 0.667 | 0.667 (+0.333) | 0.667 (+0.333) |"
    assert [str(each) for each in _photos_named(subjects)] == ["1.000 (+1.000)", "1.000 (+1.000)"]
