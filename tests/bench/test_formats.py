"""The bench of conversions: its LoRA fits, and its comparison sees a single changed bit."""

from __future__ import annotations

from bench.bases import TINY, write_base
from bench.formats import RANK, count_different, write_lora
from limner.adapters import attached, load_adapter
from limner.base import find_base, load_base
from limner.base.convert import convert


def test_one_changed_bit_is_seen_and_none_is_lost_on_both_ways(tmp_path):
    base = write_base(tmp_path / "base", TINY)
    convert(base, tmp_path / "single.safetensors")
    convert(tmp_path / "single.safetensors", tmp_path / "again")
    assert count_different(base, tmp_path / "again") == 0
    file = tmp_path / "again" / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert count_different(base, tmp_path / "again") == 1


def test_its_lora_fits_the_base(tmp_path):
    base = write_base(tmp_path / "base", TINY)
    adapter = load_adapter(write_lora(tmp_path / "lora", base))
    assert {update.rank for update in adapter.low_rank["unet"].values()} == {RANK}
    with attached(load_base(find_base(str(base))).modules(), adapter):
        pass
