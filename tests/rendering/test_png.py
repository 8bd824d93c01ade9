"""What a picture says of itself, and what a damaged one no longer says."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from limner.artifacts import hash_bytes
from limner.rendering import Recipe, Request, encode_png, read_stamp
from limner.rendering.parameters import generation_parameters

# How the web UI itself takes the last line apart.
FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
RECIPE = Recipe("dpm++", 30, 7.5)
HASH = "0123456789abcdef" * 4


def fields_of(text):
    """The last line's fields, as the web UI reads them."""
    values = dict(FIELD.findall(text.split("\n")[-1]))
    return {name: json.loads(value) if value.startswith('"') else value for name, value in values.items()}


def test_the_usual_parameters_text():
    request = Request("photo of sks cat, 4k", "blurry, ugly", 42, 0, (768, 512))
    text = generation_parameters(RECIPE, request, ("v1-5", HASH))
    assert text == (
        "photo of sks cat, 4k\nNegative prompt: blurry, ugly\n"
        "Steps: 30, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 42, Size: 768x512, "
        "Model hash: 0123456789, Model: v1-5, Version: limner"
    )


def test_lora_clip_skip_and_controlnet_are_read_back_by_the_web_uis_own_pattern():
    request = Request("sks cat", "", 1, 2, (64, 64))
    control = "Module: canny, Model: sd-controlnet-canny [01234567], Weight: 0.5"
    text = generation_parameters(
        RECIPE, request, ("my, model", HASH), ("lora-16", HASH), strength=0.5, clip_skip=1, control=control
    )
    assert text.split("\n")[0] == "sks cat <lora:lora-16:0.5>"
    assert "Negative prompt" not in text
    fields = fields_of(text)
    assert fields["Model"] == "my, model"
    assert fields["Clip skip"] == "2"
    assert fields["Lora hashes"] == "lora-16: 0123456789"
    assert fields["ControlNet 0"] == control
    assert fields["Image index"] == "2"


printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@given(printable, printable, st.integers(0, 2**63 - 1))
def test_any_prompt_survives_in_the_picture(prompt, negative, seed):
    request = Request(prompt, negative, seed, 0, (24, 16))
    text = generation_parameters(RECIPE, request, ("base", HASH))
    with Image.open(_file(encode_png(IMAGE, {"prompt": prompt}, text))) as picture:
        assert picture.info["parameters"] == text
        assert json.loads(picture.info["limner"]) == {"prompt": prompt}
        assert np.array_equal(np.asarray(picture), IMAGE)
    assert fields_of(text)["Seed"] == str(seed)


def test_a_render_is_marked_as_made_by_a_model_and_a_photo_is_not():
    with Image.open(_file(encode_png(IMAGE, {}, "text"))) as picture:
        packet = picture.info["XML:com.adobe.xmp"]
    description = Xml.fromstring(packet.strip()).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    wanted = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert description.get(name) == wanted
    with Image.open(_file(encode_png(IMAGE, {}))) as picture:
        assert set(picture.info) == {"limner"}


def test_equal_arguments_give_equal_bytes():
    assert encode_png(IMAGE, {"a": 1, "b": 2}, "text") == encode_png(IMAGE.copy(), {"b": 2, "a": 1}, "text")


def test_the_stamp_of_a_whole_picture_is_read(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(IMAGE, {"key": "k"}))
    assert read_stamp(path) == {"key": "k"}
    assert read_stamp(path, hash_bytes(path.read_bytes())) == {"key": "k"}


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "foreign", "no picture", "other hash"])
def test_the_stamp_of_anything_else_is_not(tmp_path, damage):
    path = tmp_path / "picture.png"
    whole = encode_png(IMAGE, {"key": "k"}, "text")
    middle = whole.index(b"IDAT") + 200
    contents = {
        "empty": b"",
        "cut": whole[:-30],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "no picture": b"something else",
        "other hash": whole,
    }
    if damage == "foreign":
        Image.fromarray(IMAGE).save(path)
    elif damage != "missing":
        path.write_bytes(contents[damage])
    assert read_stamp(path, "0" * 64 if damage == "other hash" else None) is None


def _file(content):
    import io

    return io.BytesIO(content)
