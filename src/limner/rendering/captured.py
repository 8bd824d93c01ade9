"""The denoiser as CUDA graphs: a step of a batch is one launch instead of a thousand.

A graph reads fixed addresses: inputs are copied into its buffers, weights are changed in place (as `attached` and
`AttachedColumns` do). If an address or anything else that was captured has changed, it is captured again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limner.adapters import StackedLayer
from limner.kernels.parallel_compilation import compile_in_parallel
from limner.rendering.denoiser import BatchInputs, PlainDenoiser, Predict

AGREEMENT = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of the largest value

Capture = Callable[[Callable[[], Tensor], Callable[[], None]], tuple[Callable[[], None], Tensor]]
"""Takes a function to capture and one that rehearses it on other inputs; returns a function that replays the captured
one, and the tensor that holds its result."""


class CudaCapture:
    """Captures into graphs that share their memory: one batch is computed at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor], rehearse: Callable[[], None]) -> tuple[Callable[[], None], Tensor]:
        """Warm up on another stream, as capturing requires, release that memory, then capture."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            with compile_in_parallel(current.device):
                run()
            rehearse()  # libraries choose their kernels and allocate their workspaces here
        current.wait_stream(stream)
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, capture_error_mode="thread_local"
        ):  # other threads write pictures
            output = run()
        return graph.replay, output


class CapturedDenoiser:
    """A denoiser that is captured once for each shape.

    A step that cannot be captured, or whose replay gives another result, is computed without a graph, with one notice.
    """

    def __init__(self, plain: PlainDenoiser, notice: Callable[[str], None], capture: Capture) -> None:
        self.plain, self._notice, self._capture = plain, notice, capture
        self._weights: Any = None
        self._replays: dict[Any, Replay | None] = {}
        self._has_notified = False

    @property
    def weight(self) -> Tensor:
        """One of the UNet's weights."""
        return self.plain.weight

    def hint(self, image: Tensor) -> Tensor | None:
        """The hint network's output (B, C0, H/8, W/8) to conditioning images (B, 3, H, W) in [0, 1]."""
        return self.plain.hint(image)

    @contextlib.contextmanager
    def over(self, inputs: BatchInputs) -> Iterator[Predict]:
        """A function that predicts the steps of one batch."""
        weights = [fingerprint(module) for module in self.plain.modules.values()]
        if weights != self._weights:
            self._weights = weights
            self._replays.clear()
        with self.plain.over(inputs) as plain:
            chosen: list[Predict] = []

            def predict(scaled: Tensor, timestep: Tensor) -> Tensor:
                if not chosen:
                    chosen.append(self._replay(scaled, timestep, inputs) or plain)
                return chosen[0](scaled, timestep)

            yield predict

    def _replay(self, scaled: Tensor, timestep: Tensor, inputs: BatchInputs) -> Replay | None:
        """A replay for such a batch, loaded with `inputs`; None if that is not possible."""
        tensors = [scaled, timestep, *inputs.tensors]
        key = inputs.conditioning_scale, tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if key not in self._replays:
            self._replays[key] = self._captured(scaled, timestep, inputs)
        replay = self._replays[key]
        if replay is not None:
            replay.load(inputs)
        return replay

    def _captured(self, scaled: Tensor, timestep: Tensor, inputs: BatchInputs) -> Replay | None:
        reason = "its replay gives another result than the step"
        try:
            replay = Replay(self.plain, scaled, timestep, inputs, self._capture)
            if replay.agrees:
                return replay
        except torch.cuda.OutOfMemoryError:
            raise  # fewer pictures at once may fit
        except Exception as error:  # if capturing is not the cause, the plain step will raise it again
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if not self._has_notified:
            self._has_notified = True
            self._notice(f"rendering continues without capture, slower: a step could not be captured ({reason})")
        return None


class Replay:
    """One captured step: the buffers that it reads and the one that it writes.

    It `agrees` if it follows its inputs: if for other inputs it gives what the modules gave for them.
    """

    def __init__(
        self, plain: PlainDenoiser, scaled: Tensor, timestep: Tensor, inputs: BatchInputs, capture: Capture
    ) -> None:
        self._scaled, self._timestep = scaled.clone(), timestep.clone()
        hint = None if inputs.hint is None else inputs.hint.clone()
        self._inputs = replace(inputs, embeds=inputs.embeds.clone(), hint=hint)
        other_inputs = (
            self._scaled.flip(-1) / 2,
            self._timestep // 2,
            replace(self._inputs, embeds=inputs.embeds.flip(1) * 2),
        )
        expected: list[Tensor] = []
        self._replay_graph, self._output = capture(
            lambda: plain.predict(self._scaled, self._timestep, self._inputs),
            lambda: expected.append(plain.predict(*other_inputs)),
        )
        self.agrees = self._matches(expected.pop(), *other_inputs)

    def load(self, inputs: BatchInputs) -> None:
        """Copy the inputs that are the same over the steps of a batch."""
        for buffer, new in zip(self._inputs.tensors, inputs.tensors, strict=True):
            buffer.copy_(new)

    def __call__(self, scaled: Tensor, timestep: Tensor) -> Tensor:
        """The prediction, in a new tensor that the next step does not change."""
        self._scaled.copy_(scaled)
        self._timestep.copy_(timestep)
        self._replay_graph()
        return self._output.clone()

    def _matches(self, expected: Tensor, scaled: Tensor, timestep: Tensor, inputs: BatchInputs) -> bool:
        self.load(inputs)
        output = self(scaled, timestep)
        tolerance = AGREEMENT[expected.dtype] * float(expected.nan_to_num().abs().max())
        return torch.allclose(output, expected, rtol=0, atol=tolerance, equal_nan=True)


def fingerprint(module: nn.Module) -> list[Any]:
    """What a graph over `module` depends on: the address of every weight, and the scales of what is stacked."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    addresses = [(name, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in tensors]
    stacked = [(layer.scales, layer.chosen) for layer in module.modules() if isinstance(layer, StackedLayer)]
    return [addresses, stacked]
