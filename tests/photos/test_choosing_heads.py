"""Which of several heads is the subject's: the one that recurs."""

from __future__ import annotations

import numpy as np
import pytest

from limner.embeddings.head_finder import FoundHead
from limner.photos import Sight, choose_heads, possible_focuses

SIZE = (600, 400)


def head(kind: str, who: int, x: float, side: float = 100, score: float = 0.8) -> FoundHead:
    """A head of individual `who`, whose vectors vary a little from photo to photo."""
    noise = np.random.default_rng([who, int(x), int(side)]).standard_normal(320)
    vector = np.random.default_rng(who).standard_normal(320) + 0.3 * noise
    return FoundHead((x, 100, x + side, 100 + side), kind, score, vector / np.linalg.norm(vector))


def look(*heads: FoundHead) -> Sight:
    return Sight(SIZE, tuple(sorted(heads, key=lambda one: -one.score)), (300.0, 200.0))


def chosen_focuses(looks, mode="auto"):
    return [possible_focuses(sight, mode)[place] for sight, place in zip(looks, choose_heads(looks), strict=True)]


def chosen(looks):
    return [focus.head and focus.head.box[0] for focus in chosen_focuses(looks)]


def test_the_one_that_recurs_is_taken_though_another_is_larger_and_surer():
    friends = [head("cat", who, 300, side=200, score=0.9) for who in (2, 3, 4)]
    looks = [look(head("cat", 1, 10 + index, score=0.6), friend) for index, friend in enumerate(friends)]
    assert chosen([*looks, look(head("cat", 1, 50))]) == [10, 11, 12, 50]


def test_a_kind_that_recurs_wins_over_a_kind_that_is_seen_once():
    looks = [look(head("dog", 1, x)) for x in (20, 30)]
    looks = [look(head("dog", 1, 10), head("person", 2, 300, score=0.95)), *looks]
    assert chosen(looks) == [10, 20, 30]


def test_in_a_single_photo_the_surest_is_taken():
    assert chosen([look(head("cat", 1, 10, score=0.6), head("cat", 2, 200, score=0.7))]) == [200]


def test_where_no_head_is_the_salient_point_is_taken():
    focus = chosen_focuses([look(), look(head("cat", 1, 10))])[0]
    assert (focus.point, focus.head, focus.how) == ((300, 200), None, "salient point")


@pytest.mark.parametrize(("mode", "point"), [("center", (300, 200)), ("saliency", (123, 45))])
def test_the_user_may_ask_for_another_point_and_keeps_the_head_to_zoom_in_on(mode, point):
    seen = Sight(SIZE, (head("cat", 1, 10),), (123.0, 45.0))
    focus = chosen_focuses([seen], mode)[0]
    assert focus.point == point
    assert focus.head == seen.heads[0]


def test_what_was_seen_in_a_small_copy_is_told_in_pixels_of_the_photo():
    seen = Sight(SIZE, (head("cat", 1, 10),), (123.0, 45.0)).scaled(3, (1801, 1200))
    assert seen.size == (1801, 1200)
    assert seen.salient == (369, 135)
    assert seen.heads[0].box == (30, 300, 330, 600)
