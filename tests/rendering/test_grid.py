"""Planning batches, attaching columns, writing in the background."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters import LowRankUpdates, attached, load_trained
from limner.errors import InputError
from limner.rendering import Column, PromptEmbeddings, Recipe, Request, columns_of, read_stamp
from limner.rendering.columns import AttachedColumns
from limner.rendering.execution import _ahead
from limner.rendering.grid import Grid, batches_of
from limner.rendering.writer import PictureWriter
from tests.rendering.folders import full_folder, lora_folder

sizes = st.sampled_from([(64, 64), (96, 64)])
rows = st.lists(st.tuples(st.sampled_from("abc"), sizes, st.sampled_from([0.5, 1.0])), max_size=30)


@given(rows, st.integers(1, 5))
def test_batches_hold_every_cell_once_and_nothing_mixed(rows, batch_size):
    grid = Grid("nowhere", "h", Recipe("ddim", 1, 1.0), "fp32", batch_size)
    cells = [
        grid.cell(Column(label), Request("p", "", seed, 0, size, "r", scale), f"{seed}.png")
        for seed, (label, size, scale) in enumerate(rows)
    ]
    batches = batches_of(cells, batch_size)
    assert sorted(cell.file for batch in batches for cell in batch) == sorted(cell.file for cell in cells)
    for batch in batches:
        assert len({(cell.request.size, cell.request.conditioning_scale) for cell in batch}) == 1
        assert 1 <= len(batch) <= batch_size
        labels = [cell.column.label for cell in batch]
        columns = list(dict.fromkeys(labels))
        assert labels == [label for label in columns for _ in range(len(batch) // len(columns))]  # equally many each


def test_columns_are_rendered_together_where_two_fit_a_batch():
    grid = Grid("nowhere", "h", Recipe("ddim", 1, 1.0), "fp32", 4)

    def labels(columns, each, batch_size):
        cells = [
            grid.cell(Column(label), Request("p", "", seed, 0, (64, 64)), f"{label}{seed}")
            for label in columns
            for seed in range(each)
        ]
        return ["".join(cell.column.label for cell in batch) for batch in batches_of(cells, batch_size)]

    assert labels("abc", 2, 4) == ["aabb", "cc"]
    assert labels("abcde", 1, 4) == ["abcd", "e"]
    assert labels("ab", 3, 4) == ["aaa", "bbb"]
    assert labels("ab", 5, 4) == ["aaaa", "a", "bbbb", "b"]


@given(st.data())
def test_every_field_of_a_request_is_in_its_key(data):
    grid = Grid("nowhere", "h", Recipe("ddim", 1, 1.0), "fp32", 1, {"r": {"edges": "1"}, "s": {"edges": "2"}})
    one = {
        "prompt": "p", "negative_prompt": "", "seed": 1, "image_index": 0, "size": (64, 64), "reference": "r",
        "conditioning_scale": 1.0,
    }  # fmt: skip
    other = {
        "prompt": "q", "negative_prompt": "n", "seed": 2, "image_index": 1, "size": (64, 96), "reference": "s",
        "conditioning_scale": 0.5,
    }  # fmt: skip
    changed = data.draw(st.sampled_from(list(one)))
    key = grid.cell(Column("base"), Request(**one), "f").key
    assert key == grid.cell(Column("another label"), Request(**one), "g").key
    assert key != grid.cell(Column("base"), Request(**one | {changed: other[changed]}), "f").key
    assert key != grid.cell(Column("base", strength=0.5), Request(**one), "f").key


def test_columns_that_share_full_weights_are_rendered_one_after_another(tiny_base, tmp_path):
    from limner.adapters import Adapter
    from tests.adapters.test_adapter import random_low_rank
    from tests.rendering.folders import adapter_folder

    full = full_folder(tmp_path, tiny_base)
    lora = lora_folder(tmp_path, tiny_base)
    top = adapter_folder(tmp_path / "top", Adapter.of("top", LowRankUpdates(random_low_rank(tiny_base))), start=full)
    grid = Grid(tmp_path, "h", Recipe("ddim", 1, 1.0), "fp32", 4)
    columns = columns_of([full, lora, top])
    cells = [grid.cell(column, Request("p", "", 0, 0, (64, 64)), column.label) for column in columns]
    assert [[cell.file for cell in batch] for batch in batches_of(cells, 4)] == [
        ["base", "lora-2"],
        ["dreambooth", "top"],
    ]
    assert [batch[0].file for batch in batches_of(cells, 1)] == ["base", "lora-2", "dreambooth", "top"]


def test_full_weights_that_two_columns_share_are_swapped_once(tiny_base, tmp_path):
    from limner.adapters import Adapter
    from tests.adapters.test_adapter import random_low_rank
    from tests.rendering.folders import adapter_folder

    full = full_folder(tmp_path, tiny_base)
    low_rank = random_low_rank(tiny_base, modules=("unet",))
    top = adapter_folder(tmp_path / "top", Adapter.of("top", LowRankUpdates(low_rank)), start=full)
    swaps = []
    load, name = tiny_base.unet.load_state_dict, "conv_in.weight"
    before = tiny_base.unet.state_dict()[name].clone()
    tiny_base.unet.load_state_dict = lambda state: swaps.append(1) or load(state)
    texts = {label: ["a cat"] for label in ("base", "dreambooth", "top")}
    with AttachedColumns(tiny_base, texts) as attach:
        attach([Column("dreambooth", full)])
        changed = tiny_base.unet.conv_in.weight.clone()
        attach([Column("top", top)])
        attach([Column("dreambooth", full), Column("top", top)])
        assert len(swaps) == 1
        assert tiny_base.unet.conv_in.weight.equal(changed)
        attach([Column("base")])
        assert tiny_base.unet.conv_in.weight.equal(before)
    assert len(swaps) == 2


def test_attaching_keeps_the_places_of_weights(tiny_base, tmp_path):
    """What was captured with one column's weights reads the next one's from the same storage."""
    full, texts = full_folder(tmp_path, tiny_base), {label: ["a cat"] for label in ("one", "two", "dreambooth")}
    one, two = lora_folder(tmp_path, tiny_base, "one"), lora_folder(tmp_path, tiny_base, "two", seed=5)
    before = {name: tensor.clone() for name, tensor in tiny_base.unet.state_dict().items()}
    with AttachedColumns(tiny_base, texts) as attach:
        places, contents = [], []
        for columns in ([Column("one", one)], [Column("two", two)]):
            attach(columns)
            places.append({name: tensor.data_ptr() for name, tensor in tiny_base.unet.named_parameters()})
            contents.append([tensor.clone() for name, tensor in tiny_base.unet.named_parameters() if "up" in name])
        assert places[0] == places[1]
        assert not all(a.equal(b) for a, b in zip(*contents, strict=True))
        attach([Column("dreambooth", full)])
        bare = {name: tensor.data_ptr() for name, tensor in tiny_base.unet.named_parameters()}
        assert bare["conv_in.weight"] == places[0]["conv_in.weight"]
    assert all(tiny_base.unet.state_dict()[name].equal(tensor) for name, tensor in before.items())


def test_each_columns_prompts_are_read_by_its_own_text_encoder(tiny_base, tmp_path):
    lora, plain = lora_folder(tmp_path, tiny_base), PromptEmbeddings(tiny_base).of(["a cat"])
    with AttachedColumns(tiny_base, {"base": ["a cat"], "lora-2": ["a cat"]}) as attach:
        base, own = (each.of(["a cat"]) for each in attach([Column("base"), Column("lora-2", lora)]))
    assert torch.equal(base, plain)
    with attached(tiny_base.modules(), load_trained(lora)):
        assert torch.equal(own, PromptEmbeddings(tiny_base).of(["a cat"]))
    assert not torch.equal(own, plain)


def test_two_variants_in_one_folder_are_refused(tiny_base, tmp_path):
    one, other = lora_folder(tmp_path, tiny_base, "a"), lora_folder(tmp_path, tiny_base, "ax0.5")
    with pytest.raises(InputError, match=r'rendered into "ax0\.5"'):
        columns_of([one, other], [1.0, 0.5])


def test_pictures_are_written_whole_in_the_background_and_failures_come_to_light(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    with PictureWriter() as writer:
        for index in range(200):
            writer.write(tmp_path / f"folder/{index}.png", image, {"key": index})
    assert [read_stamp(tmp_path / f"folder/{index}.png") for index in range(200)] == [{"key": i} for i in range(200)]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"), PictureWriter() as writer:
        writer.write(tmp_path / "file" / "0.png", image, {})


def test_what_is_computed_ahead_comes_in_order():
    begun = []
    source = (begun.append(number) or number for number in range(4))
    assert [(number, list(begun)) for number in _ahead(source, 1)] == [
        (0, [0, 1]),
        (1, [0, 1, 2]),
        (2, [0, 1, 2, 3]),
        (3, [0, 1, 2, 3]),
    ]
    assert [number for number in _ahead(iter(range(3)), 0)] == [0, 1, 2]
