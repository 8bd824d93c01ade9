"""The batches that the memory prediction counts are those that the renderer plans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limner.config import Study
from limner.memory.batches import Batches, batches_of_class, batches_of_control, batches_of_render
from limner.rendering import Column, Recipe, Request
from limner.rendering.grid import Grid, batches_of

SIZES = [(64, 64), (96, 64)]


def study(**tables) -> Study:
    subject = {"photos": "photos", "class_noun": "cat"}
    return Study.model_validate({"subject": subject, "variants": [{"method": "lora", "rank": [1]}]} | tables)


def planned(counts: dict, columns: int, at_once: int) -> Batches:
    """The two largest batches of the renderer's own plan that differ in size or in pictures."""
    grid = Grid("nowhere", "h", Recipe("ddim", 1, 1.0), "fp32", at_once)
    cells = [
        grid.cell(Column(str(column)), Request("p", "", seed, 0, size), f"{column}{size}{seed}")
        for column in range(columns)
        for size, count in counts.items()
        for seed in range(count)
    ]
    kinds = {(batch[0].request.size, len(batch)) for batch in batches_of(cells, at_once)}
    found = [*sorted((pictures for _, pictures in kinds), reverse=True), 0]
    return Batches(found[0], found[1])


@given(
    st.lists(st.sampled_from(SIZES), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 9)
)
def test_the_grids_batches_are_the_renderers(sizes, seeds, ranks, at_once):
    prompts = [{"name": f"p{i}", "prompt": "p", "size": size} for i, size in enumerate(sizes)]
    variants = [{"method": "lora", "rank": list(range(1, 1 + ranks))}]
    asked = study(variants=variants, render={"prompts": prompts, "seeds": list(range(seeds))})
    counts = {size: sizes.count(size) * seeds for size in SIZES if size in sizes}
    assert batches_of_render(asked, at_once) == planned(counts, 1 + ranks, at_once)


def test_whole_weights_come_one_by_one():
    prompts = [{"name": "p", "prompt": "p"}]
    loras = {"method": "lora", "rank": [1, 2, 3]}
    asked = {"render": {"prompts": prompts, "seeds": [0, 1]}}
    assert batches_of_render(study(variants=[loras], **asked), 8) == Batches(8, 0)  # four columns of two
    assert batches_of_render(study(variants=[loras, {"method": "full"}], **asked), 8) == Batches(8, 2)
    other = {"name": "other", "file": "other.safetensors"}
    assert batches_of_render(study(variants=[loras], adapters=[other], **asked), 10) == Batches(10, 0)
    assert batches_of_render(study(variants=[loras], adapters=[other | {"merged": True}], **asked), 10) == Batches(8, 2)


def test_class_images_in_buckets_differ_from_one_another():
    even, odd = {"class_images": {"count": 32}}, {"class_images": {"count": 20}}
    assert batches_of_class(study(**even), 16) == Batches(16, 0)
    assert batches_of_class(study(**odd), 16) == Batches(16, 4)
    assert batches_of_class(study(**even, prepare={"shape": "buckets"}), 16) == Batches(16, 16)


def test_references_without_a_size_may_differ():
    def control(*sizes):
        references = [
            {"name": f"r{i}", "image": "a.png"} | ({"size": size} if size else {}) for i, size in enumerate(sizes)
        ]
        return study(variants=[{"method": "lora", "rank": [1]}], control={"references": references, "seeds": [0, 1]})

    alike, apart = control((64, 64), (64, 64)), control(None, None)
    assert batches_of_control(alike, alike.control, 8) == Batches(8, 0)
    assert batches_of_control(apart, apart.control, 8) == Batches(4, 4)
