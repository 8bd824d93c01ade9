"""The scorer that the corridor hands to training: what it measures, against what, and what is absent."""

from __future__ import annotations

import numpy as np
import pytest

from limner.config import Measure, Validation
from limner.embeddings import read_image
from limner.stages.validate import Scorer
from tests.recorded import hold_out
from tests.training.sets import SUBJECT, write_photo_set

SETTINGS = Validation(  # with other seeds the random model finds the base further from its own prompts than from others
    every_steps=1, keep="best", count=1, seed=6, prompts=["a photo of {subject}", "a sketch of {subject}"]
)

MEASURE = Measure(likeness=["efficientnet-lite0"], prompt_fidelity="base", crop="whole")


@pytest.fixture
def make(tmp_path, tiny_base):
    """Scorers on the tiny base, with photos as asked for."""

    def made(count=6, held_out=0, measure=MEASURE, settings=SETTINGS):
        photos = write_photo_set(tmp_path / f"photos-{count}-{held_out}", count=count)
        photos = hold_out(photos, held_out)
        said = []
        progress = type("Progress", (), {"notice": staticmethod(said.append)})()
        scorer = Scorer(
            lambda: tiny_base, tiny_base.location, SUBJECT, settings, measure, photos,
            tmp_path / "cache", progress=progress,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        scorer.begin()
        return scorer, photos, said

    return made


def shown(file):
    image = read_image(file)
    return np.stack([image, image])


def test_a_real_photo_is_alike_and_a_copy_and_noise_is_neither(make):
    scorer, photos, _ = make()
    photo = scorer(0, shown(photos.files[0]))
    noise = scorer(0, np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8))
    assert photo.likeness_share > 0.5 > noise.likeness_share
    assert (photo.copying_share, noise.copying_share) == (1.0, 0.0)
    assert photo.copying == pytest.approx(1.0, abs=1e-3)


def test_a_mirrored_copy_is_seen_through(make):
    scorer, photos, _ = make()
    assert scorer(0, shown(photos.files[0])[:, :, ::-1]).copying_share == 1.0


def test_the_base_itself_has_all_of_its_fidelity_and_no_likeness_gained(make, tiny_base):
    from limner.rendering.validation import validation_pictures, validation_prompts

    scorer, _, _ = make()
    prompts = validation_prompts(SUBJECT, SETTINGS, as_class=True)
    record = scorer(0, validation_pictures(tiny_base, prompts, SETTINGS.seed))
    assert record.likeness_share == pytest.approx(0.0, abs=1e-4)
    assert record.fidelity_share == pytest.approx(1.0, abs=1e-3)


def test_with_one_prompt_there_is_no_other_to_tell_fidelity_from(make):
    scorer, photos, _ = make(settings=Validation(every_steps=1, score=True, count=2))
    record = scorer(0, shown(photos.files[0]))
    assert record.prompt_fidelity is not None
    assert record.fidelity_share is None


def test_held_out_photos_are_compared_with_where_there_are_four(make):
    scorer, photos, _ = make(count=9, held_out=4)
    assert scorer.likeness_photos == photos.held_out_files
    few, all_photos, _ = make(count=9, held_out=3)
    assert few.likeness_photos == all_photos.files
    assert scorer.judged_by != few.judged_by
    held_out = scorer(0, shown(photos.held_out_files[0]))
    assert held_out.likeness_share > 0.5


def test_three_photos_give_no_span_and_no_copying(make):
    record = make(count=3)[0](0, np.zeros((2, 64, 64, 3), np.uint8))
    assert record.likeness is not None
    assert (record.likeness_share, record.copying_share) == (None, None)


def test_absent_models_are_named_and_left_out(make):
    scorer, photos, said = make(
        measure=Measure(likeness=["nobody/nothing"], prompt_fidelity="/no/folder", crop="whole")
    )
    record = scorer(0, shown(photos.files[0]))
    assert set(record.model_dump(exclude={"step"}).values()) == {None}
    assert len(said) == 2
    assert any("likeness/nobody/nothing is left out" in line for line in said)
