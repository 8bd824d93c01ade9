"""SFace as a graph of a few weights, with the same input and output, and drawn faces that the real YuNet finds.

The recogniser's features are the mean colours of 8 by 8 parts of the aligned face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import ImageDraw

from limner.embeddings.faces import FEATURES, SFACE_FILE, SIDE_PX
from tests.embeddings.drawn_heads import draw_person_head, placed

MARKS = {"cheek": (225, 225, 285, 285), "chin": (170, 325, 230, 370)}  # boxes in a drawn head's px


def write_recogniser(folder: Path) -> Path:
    """The recogniser in `folder`, under the name that it has in OpenCV's zoo."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_recogniser(), str(folder / SFACE_FILE))
    return folder


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


def draw_face(size: tuple[int, int], middle: tuple[int, int], mark: str, head_cells: int = 4) -> np.ndarray:
    """A picture (H, W, 3) with one face about `middle`, in cells of which the longer side has ten.

    `size` is (width, height) in px; `mark` tells faces apart.
    """
    cell = max(size) // 10
    head = draw_person_head()
    ImageDraw.Draw(head).ellipse(MARKS[mark], fill=(40, 60, 220))
    x, y = (place * cell - head_cells * cell // 2 for place in middle)
    return placed(head, size, (x, y), head_cells * cell)
