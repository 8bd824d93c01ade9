"""One training loop for all parts: budget, rates, averaged weights, checkpoints, compiling and CUDA graphs.

A whole step (draw, forward, backward, clip, AdamW, average) is device work without one look back at the host, so it can
be captured in a CUDA graph. What the host changes between steps, the rates, lies in device scalars.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from miniature.files import Log, write_json, written_whole
from miniature.randomness import torch_generator
from miniature.settings import RATES, Job

STARTED_VARIABLE = "MINIATURE_STARTED"
DECAY_SHARE = 0.25
LOG_SECONDS = 10
CHECK_SECONDS = 60
CHECKPOINT_SECONDS = 90
STEPS_AHEAD = 8
"""The host runs at most this many steps ahead of the device."""


@dataclass
class Part:
    """What distinguishes one part's training from another's."""

    name: str
    network: nn.Module
    """Maps a draw to stacked losses; the first one is descended."""
    trained: nn.Module
    """Holds the parameters that are optimised and averaged."""
    saved: nn.Module
    """Its averaged weights are the part's result."""
    draw: Callable[[torch.Generator, int], tuple[Tensor, ...]]
    loss_names: tuple[str, ...]
    validate: Callable[[], dict[str, Any]]


class Budget:
    """The share of steps or seconds that is used up; seconds count from the start of the command."""

    def __init__(self, job: Job) -> None:
        if job.steps is None and job.max_seconds is None:
            raise SystemExit(f"{job.part}: give --steps, --max-seconds or both")
        self._steps = job.steps
        self._seconds = job.max_seconds
        self._started = float(os.environ.setdefault(STARTED_VARIABLE, str(time.time())))

    def used(self, steps: int) -> float:
        """0 at the start, 1 or more when training must end."""
        by_steps = steps / self._steps if self._steps else float(self._steps == 0)
        by_seconds = (time.time() - self._started) / self._seconds if self._seconds else 0.0
        return max(by_steps, by_seconds)


def rate_factor(steps: int, warmup_steps: int, used: float, decays: bool) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last quarter of the budget."""
    warmup = min(1.0, (steps + 1) / warmup_steps)
    return warmup * (min(1.0, max(0.0, (1 - used) / DECAY_SHARE)) if decays else 1.0)


class Trainer:
    """Weights, their average, the optimizer and one step."""

    def __init__(self, job: Job, part: Part) -> None:
        self.job, self.part = job, part
        rates = RATES[part.name]
        self.rates = dataclasses.replace(rates, batch=job.batch or rates.batch)
        self.log = Log(job.folder / "log.jsonl", part.name)
        self.on_gpu = job.device.startswith("cuda")
        self.parameters = [value for value in part.trained.parameters() if value.requires_grad]
        self.average = [value.detach().clone() for value in self.parameters]
        self.learning_rate = torch.tensor(0.0, device=job.device)
        self.average_rate = torch.tensor(0.0, device=job.device)
        self.optimizer = self._make_optimizer()
        self.loss_sums = torch.zeros(len(part.loss_names), device=job.device)
        self.skipped = torch.zeros((), device=job.device)
        self.network: Callable[..., Tensor] = part.network
        self.steps = 0
        self.resume()
        self.generator = torch_generator(job.seed, f"train {part.name}", self.steps, job.device)
        self.steps_before = self.steps

    def _make_optimizer(self) -> torch.optim.AdamW:
        matrices = [value for value in self.parameters if value.ndim > 1]
        vectors = [value for value in self.parameters if value.ndim <= 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=self.rates.betas,
            weight_decay=self.rates.weight_decay,
            fused=True,
            capturable=self.on_gpu,
        )
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate
        return optimizer

    def step(self) -> None:
        """One optimizer step; nothing here waits for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        inputs = self.part.draw(self.generator, self.rates.batch)
        with precision(self.job.device):
            losses = self.network(*inputs)
        losses[0].backward()
        self._match_strides()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.rates.clip_norm, foreach=True)
        # The fused AdamW leaves the weights alone where found_inf is 1.
        self.optimizer.grad_scale = None
        self.optimizer.found_inf = (~norm.isfinite()).float()
        self.optimizer.step()
        with torch.no_grad():
            self._update_average()
            self.loss_sums += losses.detach().float().nan_to_num(posinf=0.0)
            self.skipped += self.optimizer.found_inf

    def _match_strides(self) -> None:
        """The fused AdamW wants gradients laid out exactly like their weights, in dimensions of size 1 too."""
        for value in self.parameters:
            if value.grad is not None and value.grad.stride() != value.stride():
                value.grad = torch.empty_like(value).copy_(value.grad)

    def _update_average(self) -> None:
        difference = torch._foreach_sub(self.parameters, self.average)
        torch._foreach_mul_(difference, self.average_rate)
        torch._foreach_add_(self.average, difference)

    def set_rates(self, used: float) -> None:
        """Write this step's learning rate and averaging rate into the device scalars."""
        steps_now = self.steps - self.steps_before
        factor = rate_factor(steps_now, self.rates.warmup_steps, used, self.job.use_decay)
        self.learning_rate.fill_(self.rates.learning_rate * factor)
        self.average_rate.fill_(1 - min(self.rates.ema_decay, (1 + self.steps) / (10 + self.steps)))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights stand in the network inside this block."""
        kept = [value.detach().clone() for value in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
            try:
                yield
            finally:
                torch._foreach_copy_(self.parameters, kept)

    def checkpoint(self) -> None:
        """Save everything that training needs to go on."""
        state = {
            "steps": self.steps,
            "weights": self.part.trained.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with written_whole(self.job.folder / "checkpoint.pt") as temporary:
            torch.save(state, temporary)
        with self.averaged():
            weights = {name: value.detach().cpu().contiguous() for name, value in self.part.saved.state_dict().items()}
        halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        for file_name, content in (("ema.safetensors", weights), ("ema_fp16.safetensors", halves)):
            with written_whole(self.job.folder / file_name) as temporary:
                save_file({name: value.clone() for name, value in content.items()}, str(temporary))

    def resume(self) -> None:
        """Go on from the checkpoint if there is one."""
        path = self.job.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.job.device, weights_only=True)
        self.part.trained.load_state_dict(state["weights"])
        with torch.no_grad():
            torch._foreach_copy_(self.average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:  # the loaded state holds a copy of the rate, not the device scalar
            group["lr"] = self.learning_rate
        self.steps = int(state["steps"])
        self.log(resumed_at_step=self.steps)


def precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast on a GPU, float32 elsewhere."""
    if device.startswith("cuda"):
        # Cached casts would outlive the graph that they were captured in.
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()


def layout(device: torch.device | str) -> torch.memory_format:
    """Channels last on a GPU, where convolutions in bfloat16 want it."""
    return torch.channels_last if str(device).startswith("cuda") else torch.contiguous_format


def prepare_device(device: str) -> None:
    """Settings that every GPU part shares."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def train(job: Job, part: Part) -> Trainer:
    """Train until the budget is used up; on a failure start again in a simpler mode (see `start_simpler`)."""
    budget = Budget(job)
    trainer = Trainer(job, part)
    mode = {"graph": job.use_graph and trainer.on_gpu, "compile": job.use_compile and RATES[part.name].compile}
    mode["compile"] &= trainer.on_gpu
    trainer.log(batch=trainer.rates.batch, parameters=sum(p.numel() for p in trainer.parameters), **mode)
    stage = ["compile"]
    try:
        advance = _prepare_step(trainer, budget, mode, stage)
        _loop(trainer, budget, advance)
    except Exception as error:
        start_simpler(trainer, mode, stage[0], error)
    _finish(trainer)
    return trainer


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
            trainer.set_rates(budget.used(0))
            trainer.step()
            trainer.steps += 1
        stage[0] = "capture"
    torch.cuda.synchronize()
    trainer.log(warm=True, memory_gib=torch.cuda.max_memory_reserved() / 2**30)
    if not mode["graph"]:
        stage[0] = "run"
        return trainer.step
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(trainer.generator)
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        trainer.step()
    torch.cuda.synchronize()
    stage[0] = "run"
    trainer.log(captured=True)
    return graph.replay


def _loop(trainer: Trainer, budget: Budget, advance: Callable[[], None]) -> None:
    last = {"log": time.time(), "check": time.time(), "checkpoint": time.time(), "steps": trainer.steps}
    while (used := budget.used(trainer.steps - trainer.steps_before)) < 1:
        trainer.set_rates(used)
        advance()
        trainer.steps += 1
        if trainer.steps % STEPS_AHEAD or not _due(last, "log", LOG_SECONDS, trainer):
            continue
        _log_losses(trainer, last)
        if _due(last, "check", CHECK_SECONDS, trainer, wait=False):
            _validate(trainer)
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
    pictures_per_second = steps * trainer.rates.batch / max(time.time() - last["log"], 1e-6)
    rate = float(trainer.learning_rate)
    skipped = int(trainer.skipped)
    trainer.log(
        step=trainer.steps, **means, learning_rate=rate, skipped=skipped, pictures_per_second=pictures_per_second
    )
    trainer.loss_sums.zero_()
    last["log"], last["steps"] = time.time(), trainer.steps


def _validate(trainer: Trainer) -> dict[str, Any]:
    with trainer.averaged(), torch.no_grad(), precision(trainer.job.device):
        result = trainer.part.validate()
    trainer.log(step=trainer.steps, val=result)
    return result


def _finish(trainer: Trainer) -> None:
    """Save first, then validate: what was trained is safe even if the validation fails."""
    trainer.checkpoint()
    trainer.log(step=trainer.steps, saved=True)
    result = _validate(trainer)
    write_json(trainer.job.folder / "val.json", {"steps": trainer.steps} | result)


def start_simpler(trainer: Trainer, mode: dict[str, bool], stage: str, error: Exception) -> None:
    """Replace this process by one that goes on from the last checkpoint with less to go wrong.

    A failed capture or a faulting kernel leaves the device's state undefined, so a new process is the only sound way.
    """
    trainer.log(failed=stage, error=f"{type(error).__name__}: {error}"[:2000])
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
