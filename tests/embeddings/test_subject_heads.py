"""One rule for photos and pictures: which head is the subject's, and what is cut out around it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from limner.embeddings import SubjectHeads
from limner.embeddings.head_finder import FoundHead
from limner.embeddings.subject_heads import HEAD_SHARE, kinds_of, square_around
from tests.embeddings.drawn_heads import CAT_GROUND, SIDE_PX, draw_cat_head, draw_person_head, placed
from tests.embeddings.test_heads import HEADS

BLANK = np.full((200, 300, 3), 128, np.uint8)


def photos(folder, *pictures):
    files = [folder / f"{index}.png" for index in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    return files


def one_cat(x=150, side_px=250):
    return placed(draw_cat_head(), (600, 400), (x, 60), side_px)


@pytest.mark.parametrize("kind", HEADS)
def test_a_photo_and_a_picture_with_the_same_head_are_cut_alike(tmp_path, kind):
    draw, box = HEADS[kind]
    photo, moved = (placed(draw(), (900, 700), corner, 250) for corner in ((200, 150), (450, 250)))
    heads = SubjectHeads(f"grey {kind}", photos(tmp_path, photo))
    crop = heads.crop
    first, second = crop.parts([photo, moved], 64)
    assert first.found
    assert second.found
    assert np.abs(first.image.astype(int) - second.image).mean() < 15
    for part, (x, y) in ((first, (200, 150)), (second, (450, 250))):
        assert part.square
        truth = [(x, y)[edge % 2] + 250 / SIDE_PX * place for edge, place in enumerate(box)]
        middle = [(truth[0] + truth[2]) / 2, (truth[1] + truth[3]) / 2]
        assert part.square[2] - part.square[0] == part.square[3] - part.square[1]
        assert abs((part.square[0] + part.square[2]) / 2 - middle[0]) < 35
        assert all(part.square[edge] < truth[edge] for edge in (0, 1))
        assert all(part.square[edge] > truth[edge] for edge in (2, 3))


def test_a_picture_without_a_head_is_not_cut(tmp_path):
    crop = SubjectHeads("cat", photos(tmp_path, one_cat())).crop
    (part,) = crop.parts([BLANK], 64)
    assert not part.found
    assert part.square is None
    assert np.array_equal(part.image, BLANK)


@pytest.mark.parametrize(
    ("with_head", "without", "compared"), [(1, 0, True), (2, 2, True), (1, 2, False), (0, 3, False)]
)
def test_heads_are_compared_where_at_least_half_of_the_photos_show_one(tmp_path, with_head, without, compared):
    pictures = [one_cat(x) for x in range(0, 100 * with_head, 100)] + [BLANK + index for index in range(without)]
    heads = SubjectHeads("cat", photos(tmp_path, *pictures))
    assert heads.seen == with_head
    assert heads.compared is compared


def test_of_several_heads_the_one_is_cut_out_that_the_photos_show(tmp_path):
    both = np.full((300, 640, 3), CAT_GROUND, np.uint8)
    both[:, :300] = placed(draw_cat_head(), (300, 300), (25, 25), 250)
    both[:, 340:] = placed(draw_person_head(), (300, 300), (25, 25), 250)
    cat, person = both.copy(), both.copy()
    cat[:, 340:] = person[:, :300] = CAT_GROUND
    lefts = {}
    for name, photo in (("cat", cat), ("person", person)):
        (tmp_path / name).mkdir()
        heads = SubjectHeads("creature", photos(tmp_path / name, photo))  # names no kind, so any is looked for
        (square,) = heads.squares([both])
        assert square
        lefts[name] = square[0]
    assert lefts["cat"] < 100
    assert lefts["person"] > 240


@pytest.mark.parametrize(("noun", "kinds"), [
    ("grey cat", ("cat", "dog")), ("Dog face", ("cat", "dog")), ("woman face", ("person",)), ("teapot", None),
    ("catalogue", None),
])  # fmt: skip
def test_the_class_noun_says_whose_head_is_looked_for(noun, kinds):
    assert kinds_of(noun) == kinds


def test_what_decides_the_cut_is_in_its_name(tmp_path):
    first, second = photos(tmp_path, one_cat(), one_cat(200))
    names = {
        SubjectHeads(*given).crop.name
        for given in (("cat", [first]), ("cat", [second]), ("person", [first]), ("cat", [first, second]))
    }
    assert len(names) == 4
    assert SubjectHeads("cat", [first]).crop.name == SubjectHeads("kitten", [first]).crop.name


def test_a_picture_is_looked_at_once(tmp_path):
    heads = SubjectHeads("cat", photos(tmp_path, one_cat()))
    picture = one_cat(300)
    square = heads.squares([picture])
    looked: list[int] = []
    find = heads._finder.find
    heads._finder.find = lambda images, kinds=None: looked.append(len(images)) or find(images, kinds)
    assert heads.squares([picture.copy(), picture, BLANK]) == [*square, *square, None]
    assert looked == [1]


def test_the_square_holds_the_head_at_two_thirds_and_stays_inside_the_picture():
    picture = np.zeros((300, 400, 3), np.uint8)

    def square(*box):
        return square_around(FoundHead(box, "cat", 1.0, np.ones(1)), picture)

    assert square(150, 100, 250, 180) == (125, 65, 275, 215)
    assert square(0, 0, 100, 90) == (0, 0, 150, 150)
    assert square(300, 200, 400, 300) == (250, 150, 400, 300)
    assert square(0, 0, 400, 300) == (50, 0, 350, 300)
    assert (275 - 125) * HEAD_SHARE == 100
