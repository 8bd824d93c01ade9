"""The models: what they give, what they refuse."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
import torch

from limner.base import BaseLocation, find_base
from limner.embeddings import EfficientNetLite0, EmbedderLocation, find_embedder
from limner.embeddings.efficientnet import efficientnet_weights
from limner.errors import EmbedderError, InputError
from tests.drawn import draw_subject
from tests.embeddings.models import with_eos_id, write_vision_transformer, write_whole_clip


def pictures(count: int = 3, size: tuple[int, int] = (70, 60)) -> list[np.ndarray]:
    return [np.asarray(draw_subject(size, index)) for index in range(count)]


@pytest.fixture(scope="module")
def base(tiny_folder) -> BaseLocation:
    return find_base(str(tiny_folder))


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetLite0:
    return EfficientNetLite0()


def assert_embeddings(vectors: torch.Tensor, count: int, width: int) -> None:
    assert vectors.shape == (count, width)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(count), atol=1e-5)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-6


def test_efficientnet_gives_what_the_package_gives(efficientnet):
    from efficientnet_lite_pytorch import EfficientNet

    images = pictures(2, (224, 224))
    plain = EfficientNet.from_name("efficientnet-lite0").eval()
    plain.load_state_dict(torch.load(efficientnet_weights(), weights_only=True))
    pixel_values = (torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        expected = plain.extract_features(pixel_values).mean((2, 3))
    expected = torch.nn.functional.normalize(expected, dim=1)
    found = efficientnet.embed(images)
    assert_embeddings(found, 2, 1280)
    assert torch.allclose(found, expected, atol=1e-5)


def test_one_picture_of_many_is_the_same_alone(efficientnet):
    images = pictures(3)
    assert torch.allclose(efficientnet.embed(images)[2], efficientnet.embed(images[2:])[0], atol=1e-5)
    assert efficientnet.embed([]).shape == (0, 1280)


def test_efficientnet_takes_little_time(efficientnet):
    images = pictures(16, (224, 224))
    started = time.process_time()
    efficientnet.embed(images)
    assert time.process_time() - started < 16 * 0.3  # CPU seconds, so that busy neighbours do not count


@pytest.mark.parametrize("model_type", ["vit", "dinov2"])
def test_a_vision_transformer_gives_its_class_token(base, tmp_path, model_type):
    from transformers import AutoModel

    folder = write_vision_transformer(tmp_path / "model", model_type)
    embedder = find_embedder(str(folder), base).load_image()
    found = embedder.embed(pictures())
    assert_embeddings(found, 3, 16)
    assert embedder.size_px == 36
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(folder).eval()(embedder._preprocessing.apply(pictures()))
    assert torch.allclose(found, torch.nn.functional.normalize(tokens.last_hidden_state[:, 0], dim=1), atol=1e-5)


def test_the_bases_pair_equals_the_same_pair_as_a_whole_checkpoint(base, tmp_path):
    own = find_embedder("base", base).load_pair()
    whole = find_embedder(str(write_whole_clip(base.path, tmp_path / "clip")), base).load_pair()
    texts = ["a photo of a cat", "a pencil sketch", "night"]
    assert_embeddings(own.embed(pictures()), 3, 16)
    assert_embeddings(own.embed_texts(texts), 3, 16)
    assert torch.allclose(own.embed(pictures()), whole.embed(pictures()), atol=1e-6)
    assert torch.allclose(own.embed_texts(texts), whole.embed_texts(texts), atol=1e-6)
    assert own.embed_texts([]).shape == (0, 16)


def test_the_pair_equals_transformers_own_scores(base, tmp_path):
    from transformers import CLIPModel

    folder = write_whole_clip(base.path, tmp_path / "clip")
    pair = find_embedder(str(folder), base).load_pair()
    ids = pair._tokenizer(["a cat", "at night"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pair._preprocessing.apply(pictures()))
    expected = output.logits_per_image / model.logit_scale.exp()
    assert torch.allclose(pair.embed(pictures()) @ pair.embed_texts(["a cat", "at night"]).T, expected, atol=1e-5)


def test_a_pair_that_reads_texts_at_the_wrong_token_is_refused(base, tmp_path):
    bos_id = 512  # every text begins with it, so that all texts look alike
    folder = with_eos_id(base.path, tmp_path / "wrong", _bos_id(base) or bos_id)
    with pytest.raises(EmbedderError, match="different prompts the same embedding"):
        find_embedder("base", find_base(str(folder))).load_pair()


def _bos_id(base: BaseLocation) -> int:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(base.path / "tokenizer").bos_token_id


def test_parts_of_different_models_are_refused(base, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "mixed"
    shutil.copytree(base.path, folder)
    file = folder / "clip" / "model.safetensors"
    weights = load_file(file)
    del weights["visual_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(EmbedderError, match="1 weights are missing"):
        find_embedder("base", find_base(str(folder))).load_pair()


def test_identities_follow_the_content_and_not_the_place(base, tmp_path):
    first = write_vision_transformer(tmp_path / "one")
    copy = shutil.copytree(first, tmp_path / "two")
    identity = find_embedder(str(first), base).identity
    assert find_embedder(str(copy), base).identity == identity
    (copy / "preprocessor_config.json").write_text("{}")
    assert find_embedder(str(copy), base).identity != identity


def test_what_cannot_be_used_is_said_in_one_line(base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    single_file = BaseLocation("file", tmp_path / "base.safetensors", "file")
    for name, location, words in [
        ("mystery", base, '"mystery" is unknown'),
        (str(tmp_path / "empty"), base, "no readable config.json"),
        ("no-such-owner/no-such-model", base, "not in the hub cache"),
        ("base", single_file, "includes no clip"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            find_embedder(name, location)
        assert "\n" not in str(caught.value)
    with pytest.raises(EmbedderError, match="embeds pictures only"):
        EmbedderLocation("efficientnet-lite0", "efficientnet", efficientnet_weights()).load_pair()


def test_a_model_of_another_kind_or_without_weights_is_refused(base, tmp_path):
    folder = write_vision_transformer(tmp_path / "model")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"vit"', '"resnet"'))
    with pytest.raises(EmbedderError, match='type "resnet"'):
        find_embedder(str(folder), base).load_image()
    (folder / "model.safetensors").unlink()
    with pytest.raises(EmbedderError, match="has none of"):
        find_embedder(str(folder), base)
