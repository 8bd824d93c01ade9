"""The denoiser as CUDA graphs: a step of a batch is one launch instead of a thousand.

A graph reads fixed addresses: inputs are copied into its buffers, weights are changed in place (as `attached` and
`AttachedColumns` do). Where an address or anything else that it was captured with has changed, it is captured anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limner.adapters import LowRankLayer
from limner.kernels.parallel_compilation import compile_in_parallel
from limner.rendering.denoiser import Given, PlainDenoiser, Predict

AGREEMENT = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of the largest value

Capture = Callable[[Callable[[], Tensor], Callable[[], None]], tuple[Callable[[], None], Tensor]]
"""Takes what is to be captured, and what rehearses it on other inputs; returns what runs the first again and where its
result then lies."""


class CudaCapture:
    """Captures into graphs that share their memory: one batch is computed at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor], rehearse: Callable[[], None]) -> tuple[Callable[[], None], Tensor]:
        """Warm up on another stream, as capturing asks for, give back what that took, then capture."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            with compile_in_parallel(current.device):
                run()
            rehearse()  # libraries choose their kernels and take their workspaces in it
        current.wait_stream(stream)
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # others write pictures
            output = run()
        return graph.replay, output


class CapturedDenoiser:
    """A denoiser captured once for each shape that it meets.

    What cannot be captured, or gives another result when it is replayed, is computed as it is, with one notice.
    """

    def __init__(self, plain: PlainDenoiser, notice: Callable[[str], None], capture: Capture) -> None:
        self.plain, self._notice, self._capture = plain, notice, capture
        self._weights: Any = None
        self._replays: dict[Any, Replay | None] = {}
        self._told = False

    @property
    def weight(self) -> Tensor:
        """One of the UNet's weights."""
        return self.plain.weight

    def hint(self, image: Tensor) -> Tensor | None:
        """The hint network's answer (B, C0, H/8, W/8) to conditioning images (B, 3, H, W) in [0, 1]."""
        return self.plain.hint(image)

    @contextlib.contextmanager
    def over(self, given: Given) -> Iterator[Predict]:
        """What predicts the steps of one batch."""
        weights = [fingerprint(module) for module in self.plain.modules.values()]
        if weights != self._weights:
            self._weights = weights
            self._replays.clear()
        with self.plain.over(given) as plain:
            chosen: list[Predict] = []

            def predict(scaled: Tensor, timestep: Tensor) -> Tensor:
                if not chosen:
                    chosen.append(self._replay(scaled, timestep, given) or plain)
                return chosen[0](scaled, timestep)

            yield predict

    def _replay(self, scaled: Tensor, timestep: Tensor, given: Given) -> Replay | None:
        """What replays such a batch, holding `given`; None where that is not possible."""
        inputs = [scaled, timestep, *given.tensors]
        key = given.conditioning_scale, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._replays:
            self._replays[key] = self._captured(scaled, timestep, given)
        replay = self._replays[key]
        if replay is not None:
            replay.load(given)
        return replay

    def _captured(self, scaled: Tensor, timestep: Tensor, given: Given) -> Replay | None:
        reason = "its replay does not give what the step gives"
        try:
            replay = Replay(self.plain, scaled, timestep, given, self._capture)
            if replay.agrees:
                return replay
        except torch.cuda.OutOfMemoryError:
            raise  # fewer pictures at once may do
        except Exception as error:  # if it is none of capturing, computing it as it is will raise it
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if not self._told:
            self._told = True
            self._notice(f"rendering goes on step by step, slower: a step could not be captured ({reason})")
        return None


class Replay:
    """One captured step: the buffers that it reads and the one that it writes.

    It `agrees` where it follows its inputs: where it gives for others what the modules themselves gave for them.
    """

    def __init__(self, plain: PlainDenoiser, scaled: Tensor, timestep: Tensor, given: Given, capture: Capture) -> None:
        self._scaled, self._timestep = scaled.clone(), timestep.clone()
        hint = None if given.hint is None else given.hint.clone()
        self._given = replace(given, embeds=given.embeds.clone(), hint=hint)
        others = self._scaled.flip(-1) / 2, self._timestep // 2, replace(self._given, embeds=given.embeds.flip(1) * 2)
        wanted: list[Tensor] = []
        self._again, self._output = capture(
            lambda: plain.predict(self._scaled, self._timestep, self._given),
            lambda: wanted.append(plain.predict(*others)),
        )
        self.agrees = self._gives(wanted.pop(), *others)

    def load(self, given: Given) -> None:
        """Take what stays the same over the steps of a batch."""
        for own, new in zip(self._given.tensors, given.tensors, strict=True):
            own.copy_(new)

    def __call__(self, scaled: Tensor, timestep: Tensor) -> Tensor:
        """The prediction; the caller's own, which the next step leaves alone."""
        self._scaled.copy_(scaled)
        self._timestep.copy_(timestep)
        self._again()
        return self._output.clone()

    def _gives(self, wanted: Tensor, scaled: Tensor, timestep: Tensor, given: Given) -> bool:
        self.load(given)
        got = self(scaled, timestep)
        tolerance = AGREEMENT[wanted.dtype] * float(wanted.nan_to_num().abs().max())
        return torch.allclose(got, wanted, rtol=0, atol=tolerance, equal_nan=True)


def fingerprint(module: nn.Module) -> list[Any]:
    """What a graph over `module` was captured with: where every weight lies, and the scales of low-rank updates."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    places = [(name, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in tensors]
    updates = [(layer.scales, layer.chosen) for layer in module.modules() if isinstance(layer, LowRankLayer)]
    return [places, updates]
