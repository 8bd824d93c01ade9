"""SFace and YuNet as graphs of a few weights: same inputs and outputs, and faces that are red squares.

The detector's scores are how red each cell of 32 px is; a face is three cells wide around it. The recogniser's features
are the mean colours of 8 by 8 parts of the aligned face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from limner.embeddings.faces import FEATURES, SFACE_FILE, SIDE_PX, YUNET_FILE

STRIDES = (8, 16, 32)
FACE_CELLS = 3
POINTS = (
    (0.34, 0.46),
    (0.66, 0.46),
    (0.5, 0.64),
    (0.37, 0.82),
    (0.63, 0.82),
)  # of the face's side, as in an aligned one


def write_faces(folder: Path) -> Path:
    """Both files in `folder`, under the names that they have in OpenCV's zoo."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_detector(), str(folder / YUNET_FILE))
    onnx.save(_recogniser(), str(folder / SFACE_FILE))
    return folder


def _detector() -> onnx.ModelProto:
    """Outputs as YuNet's of 2023: score, objectness, box and five points of every cell, for three strides."""
    nodes, weights, outputs = [], [], []
    for stride in STRIDES:
        seen = stride == STRIDES[-1]  # the finer cells see nothing
        red = np.array([-1, -1, 1], np.float32).reshape(1, 3, 1, 1) / 255 / stride**2  # pictures are BGR
        box = [0.5, 0.5, np.log(FACE_CELLS), np.log(FACE_CELLS)]
        points = [0.5 + FACE_CELLS * (share - 0.5) for point in POINTS for share in point]
        for kind, values in (("cls", [0.0]), ("obj", [0.0]), ("bbox", box), ("kps", points)):
            name, count = f"{kind}_{stride}", len(values)
            scores = kind in ("cls", "obj") and seen
            kernel = np.broadcast_to(red if scores else np.zeros_like(red), (count, 3, stride, stride)).copy()
            weights += [numpy_helper.from_array(kernel, f"{name}_w")]
            weights += [numpy_helper.from_array(np.array(values, np.float32), f"{name}_b")]
            weights += [numpy_helper.from_array(np.array([1, -1, count], np.int64), f"{name}_s")]
            conv = [f"{name}_c"]
            nodes.append(
                helper.make_node(
                    "Conv", ["input", f"{name}_w", f"{name}_b"], conv, strides=[stride] * 2, kernel_shape=[stride] * 2
                )
            )
            if kind in ("cls", "obj"):
                nodes.append(helper.make_node("Relu", conv, [f"{name}_r"]))
                conv = [f"{name}_r"]
            nodes.append(helper.make_node("Transpose", conv, [f"{name}_t"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, count]))
    return _model(nodes, [1, 3, None, None], "input", outputs, weights)


def _recogniser() -> onnx.ModelProto:
    part = SIDE_PX // 8
    nodes = [
        helper.make_node("AveragePool", ["data"], ["parts"], kernel_shape=[part] * 2, strides=[part] * 2),
        helper.make_node("Flatten", ["parts"], ["flat"]),
        helper.make_node("Gemm", ["flat", "mix"], ["fc1"]),
    ]
    mix = np.random.default_rng(0).normal(size=(3 * 64, FEATURES)).astype(np.float32)
    outputs = [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, FEATURES])]
    return _model(nodes, [1, 3, SIDE_PX, SIDE_PX], "data", outputs, [numpy_helper.from_array(mix, "mix")])


def _model(nodes, shape, name, outputs, weights) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def draw_face(size: tuple[int, int], corner: tuple[int, int], mark: str) -> np.ndarray:
    """A picture (H, W, 3) with one face, its middle at cell `corner` (ten a side); `mark` tells faces apart.

    `size` is (width, height) in px.
    """
    cell = max(size) // 10
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    x, y = (place * cell for place in corner)
    pixels[y - cell : y + 2 * cell, x - cell : x + 2 * cell] = (140, 140, 140)
    left, top = {"cheek": (x - cell, y), "chin": (x, y + cell)}[mark]
    pixels[top : top + cell, left : left + cell] = (40, 60, 220)
    pixels[y : y + cell, x : x + cell] = (255, 0, 0)
    return pixels
