"""People's faces: SFace (Zhong et al. 2021, arXiv 2205.12010) on faces that YuNet (Wu et al. 2023) finds, by OpenCV.

SFace's weights are from OpenCV's model zoo, under Apache-2.0; YuNet's come with limner's packages (`face_finder`). Both
run on the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from limner.artifacts import hash_bytes, hash_file
from limner.embeddings.crops import Crop
from limner.embeddings.embedder import Pixels
from limner.embeddings.face_finder import detect_faces, face_weights
from limner.errors import EmbedderError

SFACE = "sface"
SFACE_FILE, SFACE_HUB = "face_recognition_sface_2021dec.onnx", "opencv/face_recognition_sface"
SIDE_PX, FEATURES = 112, 128  # of an aligned face, and of its embedding
SEARCH_PX = 320  # longer side for the first search: YuNet was trained on faces of 10 to 300 px
CLOSE_SHARE = 0.8  # share of the longer side that the face has in the second search
FACES_VERSION = 2  # increase it when another face, or another part of it, is cropped


class FaceEmbedder:
    """SFace on aligned faces of 112 px, as `aligned_face` cuts them. Raises EmbedderError for another file."""

    size_px = SIDE_PX

    def __init__(self, name: str, identity: str, recogniser: Path) -> None:
        self.name, self.identity = name, identity
        self._model = _open(recogniser)

    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, 128) of unit norm, fp32 on the CPU."""
        features = [torch.from_numpy(self._model.feature(_bgr(image)).copy()) for image in images]  # (1, 128) each
        return nn.functional.normalize(torch.cat([torch.empty(0, FEATURES), *features]), dim=1)


def aligned_face(recogniser: Path) -> Crop:
    """Cut the largest face out, turned and scaled so that eyes, nose and mouth are where SFace expects them.

    Without a face the crop is black and not found. Raises EmbedderError for a file that is not SFace.
    """
    model = _open(recogniser)

    def cut(image: Pixels, side_px: int) -> tuple[Pixels, bool]:
        face = _largest_face(image)
        if face is None:
            return np.zeros((side_px, side_px, 3), np.uint8), False
        points = _detected_closely(image, face).astype(np.float32)
        crop = cv2.cvtColor(model.alignCrop(_bgr(image), points), cv2.COLOR_BGR2RGB)
        return (crop if side_px == SIDE_PX else cv2.resize(crop, (side_px, side_px))), True

    return Crop(f"face-{FACES_VERSION}-{hash_file(face_weights())[:8]}", cut, leaves_out=True)


def _largest_face(image: Pixels) -> np.ndarray | None:
    """YuNet's row (15,) for it, in px of `image`."""
    faces = detect_faces(image, SEARCH_PX)  # (N, 15)
    return max(faces, key=lambda face: (face[2] * face[3], *face)) if len(faces) else None


def _detected_closely(image: Pixels, face: np.ndarray) -> np.ndarray:
    """The same face from a second search around it: YuNet detects a face's rotation only if the face is large."""
    left, top, width, height = face[:4]
    half = max(width, height) / CLOSE_SHARE / 2
    middle = np.array([left + width / 2, top + height / 2])
    x0, y0 = np.maximum(middle - half, 0).astype(int)
    x1, y1 = np.ceil(middle + half).astype(int)
    closely = _largest_face(image[y0:y1, x0:x1])
    return face if closely is None else closely + np.array([x0, y0, 0, 0, *[x0, y0] * 5, 0])


def faces_identity(recogniser: Path) -> str:
    """SHA-256 over the contents of the recogniser's file and the detector's."""
    return hash_bytes((hash_file(recogniser) + hash_file(face_weights())).encode())


def _bgr(image: Pixels) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def _open(recogniser: Path) -> Any:
    try:
        return cv2.FaceRecognizerSF.create(str(recogniser), "")
    except cv2.error as error:
        raise EmbedderError(
            f"{recogniser} cannot be opened as {SFACE_FILE} ({error.err or error}); download it again: a file of a few "
            "hundred bytes is only a pointer to it"
        ) from None
