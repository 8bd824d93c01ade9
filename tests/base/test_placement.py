"""Parts of a base that wait on the CPU while others work; torch's "meta" device stands in for a GPU."""

from __future__ import annotations

import shutil

import pytest
import torch

from limner.base import find_base, load_base, placed


def _places(base) -> dict[str, str]:
    return {name: next(getattr(base, name).parameters()).device.type for name in ("unet", "text_encoder", "vae")}


@pytest.fixture
def waiting(tiny_folder):
    """A base for work on "meta" whose parts all lie on the CPU."""
    return load_base(find_base(str(tiny_folder)), device="meta", waiting=True)


def test_a_base_knows_its_device_wherever_its_parts_lie(waiting, tiny_base):
    assert waiting.device == torch.device("meta")
    assert set(_places(waiting).values()) == {"cpu"}
    assert tiny_base.device == torch.device("cpu")


def test_a_part_is_on_the_device_for_the_time_of_the_block(tiny_base):
    before = {name: tensor.clone() for name, tensor in tiny_base.vae.state_dict().items()}
    moves = []
    vae_to = tiny_base.vae.to
    tiny_base.vae.to = lambda device: moves.append(str(device)) or vae_to("cpu")  # there is no second device here
    tiny_base.device = torch.device("meta")
    with placed(tiny_base, "vae"):
        assert moves == ["meta"]
    assert moves == ["meta", "cpu"]
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_base.vae.state_dict().items())


def test_parts_that_are_there_already_stay_there(tiny_folder):
    base = load_base(find_base(str(tiny_folder)), device="meta")
    with placed(base, "unet", "safety_checker"):
        pass
    assert set(_places(base).values()) == {"meta"}


def test_a_failing_block_sends_its_parts_back_too(waiting):
    waiting.unet.to = lambda device: moves.append(str(device))
    moves = []
    with pytest.raises(ZeroDivisionError), placed(waiting, "unet"):
        raise ZeroDivisionError
    assert moves == ["meta", "cpu"]


def test_parts_keep_their_files_own_precision_where_none_is_asked_for(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "base")
    half = load_base(find_base(str(tiny_folder)), dtype=torch.float16)
    half.unet.save_pretrained(tmp_path / "base" / "unet")
    half.text_encoder.save_pretrained(tmp_path / "base" / "text_encoder")
    base = load_base(find_base(str(tmp_path / "base")), dtype=None)
    assert {base.unet.dtype, base.text_encoder.dtype} == {torch.float16}
    assert base.vae.dtype == torch.float32
