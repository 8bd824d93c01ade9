"""On real photos: does the embedding of a head crop name the individual cat? LIMNER_CHECK_DATA says where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from limner.embeddings import EfficientNetLite0, SubjectHeads

CATS = ("appy", "birba", "bortolo", "crystalino", "elvis", "koshka", "mina", "roxy")
LONGEST_SIDE_PX = 1024
DATA = os.environ.get("LIMNER_CHECK_DATA", "")


def open_upright(file: Path) -> np.ndarray:
    with Image.open(file) as photo:
        upright = ImageOps.exif_transpose(photo).convert("RGB")
    upright.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    return np.asarray(upright)


def share_named_rightly(vectors: torch.Tensor, labels: torch.Tensor) -> float:
    """Leave one out: each photo goes to the cat whose other photos' mean embedding is nearest."""
    right = 0
    for index in range(len(vectors)):
        others = torch.arange(len(vectors)) != index
        means = torch.stack([vectors[others & (labels == cat)].mean(0) for cat in range(len(CATS))])
        right += int((torch.nn.functional.normalize(means, dim=1) @ vectors[index]).argmax() == labels[index])
    return right / len(vectors)


@pytest.mark.shared
@pytest.mark.skipif(not DATA, reason="LIMNER_CHECK_DATA names no folder with subjects/ of real cats")
def test_head_crops_name_the_right_cat_of_eight():
    files = [(cat, file) for cat in range(len(CATS)) for file in sorted(Path(DATA, "subjects", CATS[cat]).iterdir())]
    assert len(files) > 90
    parts = [
        part
        for cat in range(len(CATS))
        for own in [[file for owner, file in files if owner == cat]]
        for part in SubjectHeads("cat", own).crop.parts([*map(open_upright, own)], EfficientNetLite0.size_px)
    ]
    vectors, labels = EfficientNetLite0().embed([part.image for part in parts]), torch.tensor([cat for cat, _ in files])
    found = torch.tensor([part.found for part in parts])
    share = share_named_rightly(vectors, labels)
    print(f"{len(files)} photos, head found in {found.float().mean():.3f}, named rightly {share:.3f}")
    assert share > 0.95
