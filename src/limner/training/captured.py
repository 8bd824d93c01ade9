"""A step recorded once as a CUDA graph and replayed: launching a thousand kernels costs the host one call.

Rehearsals on a side stream let libraries choose their algorithms and Triton compile before the capture. They collect
gradients, and run the update with gradients that count as no numbers, so that no weight changes. The first computes
nothing of worth: in it Triton's kernels are compiled side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.kernels.parallel_compilation import compile_in_parallel
from limner.progress import Progress
from limner.training.step import Step


class CapturedStep:
    """`step` as a CUDA graph; where photos lie in buckets, as one for each, for graphs have fixed shapes.

    The graphs share their memory: one runs at a time, and nothing that one leaves in it is read by another. Each has
    its own places for the gradients of whole weights, which the update finds by their addresses.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._pool = step, torch.cuda.graph_pool_handle()
        buckets = range(len(step.draws))
        torch.cuda.empty_cache()  # pieces left from setting up, of sizes that no step asks for
        for bucket in buckets:  # before there is a graph, so that what they take does not come beside what it keeps
            _rehearse(step, bucket)
        self._graphs = [self._captured(bucket) for bucket in buckets]
        self._pointed_at = len(step.draws) - 1

    def _captured(self, bucket: int) -> tuple[torch.cuda.CUDAGraph, Tensor | None]:
        """The graph of a step of this bucket, and where it puts gradients."""
        step, graph = self._step, torch.cuda.CUDAGraph()
        step.clear_gradients()  # those of the graph before: their places are free for this one
        with torch.cuda.graph(graph, pool=self._pool):
            step(bucket)
        step.optimizer.point_at_gradients()
        return graph, step.optimizer.gradient_addresses()

    def __call__(self, bucket: int = 0) -> None:
        """Take a step; returns before it is done."""
        graph, addresses = self._graphs[bucket]
        if bucket != self._pointed_at:
            self._step.optimizer.restore_gradient_addresses(addresses)
            self._pointed_at = bucket
        graph.replay()


def _rehearse(step: Step, bucket: int) -> None:
    """Both rehearsals of a bucket; what they took is given back."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        with compile_in_parallel(step.number.device):
            _go_through(step, bucket)
        step.clear_gradients()
        _go_through(step, bucket)
    torch.cuda.current_stream().wait_stream(stream)
    step.clear_gradients()
    torch.cuda.empty_cache()


def _go_through(step: Step, bucket: int) -> None:
    step.collect(bucket)
    step.optimizer.rehearse()


def captured(step: Step, label: str, progress: Progress) -> CapturedStep | Step:
    """`step` captured where it lies on a CUDA device; itself elsewhere and, with a notice, where that cannot be.

    An out-of-memory error is passed on: the caller can make the step smaller.
    """
    if not step.number.is_cuda:
        return step
    try:
        return CapturedStep(step)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        progress.notice(f"{label}: the step cannot be captured; it runs operation by operation, slower ({reason})")
        step.clear_gradients()
        return step
