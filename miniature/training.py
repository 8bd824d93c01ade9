"""One training loop for all parts: budget, checkpoints, compiling and CUDA graphs.

A step is device work without one look back at the host, so it can be captured in a CUDA graph; with several GPUs in
two, with the exchange of gradients between them. What the host changes between steps, the rates, lies in device
scalars.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from miniature.devices import layout, precision, prepare_device
from miniature.files import write_json
from miniature.ranks import join
from miniature.settings import RATES, Job
from miniature.trainer import Part, Trainer

__all__ = ["Part", "Trainer", "layout", "precision", "prepare_device", "train"]

STARTED_VARIABLE = "MINIATURE_STARTED"
LOG_SECONDS = 10
CHECK_SECONDS = 60
CHECKPOINT_SECONDS = 60
STEPS_AHEAD = 8
"""The host runs at most this many steps ahead of the device, and the processes agree on going on this often."""


class Budget:
    """The share of steps or seconds that is used up; seconds count from the start of the command."""

    def __init__(self, job: Job) -> None:
        if job.steps is None and job.max_seconds is None:
            raise SystemExit(f"{job.part}: give --steps, --max-seconds or both")
        self._steps = job.steps
        self._seconds = job.max_seconds
        self._started = float(os.environ.setdefault(STARTED_VARIABLE, str(time.time())))

    def ahead(self, steps: int) -> int:
        """How many steps may be sent to the device before looking at the budget again."""
        return min(STEPS_AHEAD, self._steps - steps) if self._steps else STEPS_AHEAD

    def used(self, steps: int) -> float:
        """0 at the start, 1 or more when training must end."""
        by_steps = steps / self._steps if self._steps else float(self._steps == 0)
        by_seconds = (time.time() - self._started) / self._seconds if self._seconds else 0.0
        return max(by_steps, by_seconds)


def train(job: Job, part: Part) -> Trainer:
    """Train until the budget is used up; on a failure start again in a simpler mode (see `start_simpler`)."""
    budget = Budget(job)
    trainer = Trainer(job, part, join())
    mode = {"graph": job.use_graph and trainer.on_gpu, "compile": job.use_compile and RATES[part.name].compile}
    mode["compile"] &= trainer.on_gpu
    count = sum(value.numel() for value in trainer.parameters)
    trainer.log(batch=trainer.rates.batch, gpus=trainer.ranks.count, parameters=count, device=_device_name(job), **mode)
    stage = ["compile"]
    try:
        advance = _prepare_step(trainer, budget, mode, stage)
        _loop(trainer, budget, advance)
    except Exception as error:
        start_simpler(trainer, mode, stage[0], error)
    _finish(trainer)
    return trainer


def _device_name(job: Job) -> str:
    return torch.cuda.get_device_name() if job.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"


def _prepare_step(trainer: Trainer, budget: Budget, mode: dict[str, bool], stage: list[str]) -> Callable[[], None]:
    """The function that advances by one step: a graph's replay, or the step itself."""
    if not trainer.on_gpu:
        stage[0] = "run"
        return trainer.step
    if mode["compile"]:
        trainer.network = torch.compile(trainer.part.network, dynamic=False)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            trainer.set_rates(0.0)
            trainer.step()
            trainer.steps += 1
        stage[0] = "capture"
    torch.cuda.synchronize()
    trainer.log(warm=True, memory_gib=torch.cuda.max_memory_reserved() / 2**30)
    if not mode["graph"]:
        stage[0] = "run"
        return trainer.step
    if trainer.ranks.count == 1:
        advance = _captured(trainer, trainer.step, stream)
    else:
        backward, update = _captured(trainer, trainer.backward, stream), _captured(trainer, trainer.update, stream)

        def advance() -> None:
            backward()
            trainer.exchange()
            update()

    torch.cuda.synchronize()
    stage[0] = "run"
    trainer.log(captured=True)
    return advance


def _captured(trainer: Trainer, work: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    """`work` as a graph's replay."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(trainer.generator)
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _loop(trainer: Trainer, budget: Budget, advance: Callable[[], None]) -> None:
    last = {"log": time.time(), "check": time.time(), "checkpoint": time.time(), "steps": trainer.steps}
    while (used := trainer.ranks.agree(budget.used(trainer.steps - trainer.steps_before))) < 1:
        for _ in range(budget.ahead(trainer.steps - trainer.steps_before)):
            trainer.set_rates(used)
            advance()
            trainer.steps += 1
        if not trainer.ranks.leads or not _due(last, "log", LOG_SECONDS, trainer):
            continue
        _log_losses(trainer, last)
        if _due(last, "check", CHECK_SECONDS, trainer, wait=False):
            _validate(trainer, 0)
            last["check"] = last["log"] = time.time()
        if _due(last, "checkpoint", CHECKPOINT_SECONDS, trainer, wait=False):
            trainer.checkpoint()
            last["checkpoint"] = last["log"] = time.time()
    if trainer.steps > last["steps"]:
        _log_losses(trainer, last)


def _due(last: dict[str, float], what: str, seconds: float, trainer: Trainer, wait: bool = True) -> bool:
    """Whether `what` was last done at least `seconds` ago; first lets the device catch up with the host."""
    if wait and trainer.on_gpu:
        torch.cuda.synchronize()
    return time.time() - last[what] >= seconds


def _log_losses(trainer: Trainer, last: dict[str, float]) -> None:
    steps = int(trainer.steps - last["steps"])
    means = dict(zip(trainer.part.loss_names, (trainer.loss_sums / steps).tolist(), strict=True))
    pictures = steps * trainer.rates.batch * trainer.ranks.count
    speed = {"pictures_per_second": pictures / max(time.time() - last["log"], 1e-6)}
    trainer.log(
        step=trainer.steps, **means, learning_rate=float(trainer.learning_rate), skipped=int(trainer.skipped), **speed
    )
    trainer.loss_sums.zero_()
    last["log"], last["steps"] = time.time(), trainer.steps


def _validate(trainer: Trainer, which: int) -> dict[str, Any]:
    with trainer.averaged(which), torch.no_grad(), precision(trainer.job.device):
        result = trainer.part.validate()
    trainer.log(step=trainer.steps, ema_power=trainer.rates.ema_powers[which], val=result)
    return result


def _finish(trainer: Trainer) -> None:
    """Save first, then compare the averages: what was trained is safe even if the validation fails."""
    if not trainer.ranks.leads:
        raise SystemExit(0)
    trainer.checkpoint()
    trainer.log(step=trainer.steps, saved=True)
    results = [_validate(trainer, which) for which in range(len(trainer.averages))]
    best = min(range(len(results)), key=lambda which: trainer.part.fault(results[which]))
    if best != 0:
        trainer.checkpoint(best)
    chosen = {"steps": trainer.steps, "ema_power": trainer.rates.ema_powers[best]}
    write_json(trainer.job.folder / "val.json", chosen | results[best])


def start_simpler(trainer: Trainer, mode: dict[str, bool], stage: str, error: Exception) -> None:
    """Replace this process by one that goes on from the last checkpoint with less to go wrong.

    A failed capture or a faulting kernel leaves the device's state undefined, so a new process is the only sound way.
    With several processes the failure ends them all.
    """
    trainer.log(failed=stage, error=f"{type(error).__name__}: {error}"[:2000])
    if trainer.ranks.count > 1:
        raise error
    if isinstance(error, torch.OutOfMemoryError) and trainer.rates.batch >= 32:
        flags = ["--batch", str(trainer.rates.batch // 2)]
    elif stage == "compile" and mode["compile"]:
        flags = ["--no-compile"]
    elif mode["graph"]:
        flags = ["--no-graph"]
    elif mode["compile"]:
        flags = ["--no-compile"]
    else:
        raise error
    trainer.log(starting_again_with=flags)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "miniature", *sys.argv[1:], *flags])
