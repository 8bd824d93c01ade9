"""People's faces: SFace (Zhong et al. 2021, arXiv 2205.12010) on faces that YuNet (Wu et al. 2023) finds, by OpenCV.

Both models are of OpenCV's zoo, SFace's weights under Apache-2.0 and YuNet's under MIT. They run on the processor.
"""

from __future__ import annotations

import threading
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
from limner.errors import EmbedderError

SFACE = "sface"
SFACE_FILE, SFACE_HUB = "face_recognition_sface_2021dec.onnx", "opencv/face_recognition_sface"
YUNET_FILE, YUNET_HUB = "face_detection_yunet_2023mar.onnx", "opencv/face_detection_yunet"
SIDE_PX, FEATURES = 112, 128  # of an aligned face, and of its embedding
SEARCH_PX = 320  # longer side while faces are looked for: YuNet was trained on faces of 10 to 300 px
LEAST_SCORE, SAME_FACE_OVERLAP, MOST_FACES = 0.6, 0.3, 5000  # as OpenCV's zoo runs it
FACES_VERSION = 1  # raise it when another face, or another part of it, is cut out


class FaceEmbedder:
    """SFace on aligned faces of 112 px, as `aligned_face` cuts them. Raises EmbedderError for another file."""

    size_px = SIDE_PX

    def __init__(self, name: str, identity: str, recogniser: Path) -> None:
        self.name, self.identity = name, identity
        self._model = _open(cv2.FaceRecognizerSF.create, recogniser, SFACE_FILE, "")

    def embed(self, images: Sequence[Pixels]) -> Tensor:
        """Embeddings (N, 128) of unit norm, fp32 on the CPU."""
        features = [torch.from_numpy(self._model.feature(_bgr(image)).copy()) for image in images]  # (1, 128) each
        return nn.functional.normalize(torch.cat([torch.empty(0, FEATURES), *features]), dim=1)


def aligned_face(recogniser: Path, detector: Path) -> Crop:
    """Cut the largest face out, turned and scaled so that eyes, nose and mouth lie where SFace expects them.

    Without a face the crop is black and not found. Raises EmbedderError for files that are no SFace or no YuNet.
    """
    model = _open(cv2.FaceRecognizerSF.create, recogniser, SFACE_FILE, "")
    detectors = _Detectors(detector)

    def cut(image: Pixels, side_px: int) -> tuple[Pixels, bool]:
        face = _largest_face(detectors.loaded, image)
        if face is None:
            return np.zeros((side_px, side_px, 3), np.uint8), False
        crop = cv2.cvtColor(model.alignCrop(_bgr(image), face), cv2.COLOR_BGR2RGB)
        return (crop if side_px == SIDE_PX else cv2.resize(crop, (side_px, side_px))), True

    return Crop(f"face-{FACES_VERSION}-{hash_file(detector)[:8]}", cut, leaves_out=True)


def faces_identity(recogniser: Path, detector: Path) -> str:
    """SHA-256 over both files' contents."""
    return hash_bytes((hash_file(recogniser) + hash_file(detector)).encode())


def face_files(folder: Path) -> tuple[Path, Path] | None:
    """SFace's and YuNet's file in a folder that holds both."""
    files = folder / SFACE_FILE, folder / YUNET_FILE
    return files if all(file.is_file() for file in files) else None


class _Detectors(threading.local):
    """A detector for each thread: it keeps the size of the picture that it looks at."""

    def __init__(self, file: Path) -> None:
        settings = ("", (SEARCH_PX, SEARCH_PX), LEAST_SCORE, SAME_FACE_OVERLAP, MOST_FACES)
        self.loaded = _open(cv2.FaceDetectorYN.create, file, YUNET_FILE, *settings)


def _largest_face(detector: Any, image: Pixels) -> np.ndarray | None:
    """Its row (15,): left, top, width, height, five points, score; in px of `image`."""
    scale = SEARCH_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    detector.setInputSize(size)
    faces = detector.detect(cv2.resize(_bgr(image), size, interpolation=way))[1]
    if faces is None:
        return None
    largest = max(faces, key=lambda face: (face[2] * face[3], *face))
    return np.r_[largest[:14] / scale, largest[14:]].astype(np.float32)


def _bgr(image: Pixels) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def _open(create: Any, file: Path, expected: str, *settings: Any) -> Any:
    try:
        return create(str(file), *settings)
    except cv2.error as error:
        raise EmbedderError(
            f"{file} cannot be opened as {expected} ({error.err or error}); download it again: a file of a few hundred "
            "bytes is only a pointer to it"
        ) from None
