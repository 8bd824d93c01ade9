"""Weights, their averages, the optimizers and one step, all device work without one look back at the host."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miniature.devices import precision
from miniature.files import Log, written_whole
from miniature.optimisers import Muon, takes_matrix
from miniature.randomness import torch_generator
from miniature.ranks import Ranks
from miniature.settings import RATES, Job

DECAY_SHARE = 0.3


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
    fault: Callable[[dict[str, Any]], float]
    """What a validation result is judged by; the average with the smallest fault is the part's result."""


def rate_factor(steps: int, warmup_steps: int, used: float, decays: bool) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last share of the budget."""
    warmup = min(1.0, (steps + 1) / warmup_steps)
    return warmup * (min(1.0, max(0.0, (1 - used) / DECAY_SHARE)) if decays else 1.0)


def average_rate(steps: int, power: float) -> float:
    """How far the average moves towards the weights after step `steps` (arXiv 2312.02696, equation 127)."""
    return 1 - (1 - 1 / (steps + 1)) ** (power + 1)


class Trainer:
    """One part's training; a step is `backward`, `exchange` between GPUs, `update`."""

    def __init__(self, job: Job, part: Part, ranks: Ranks) -> None:
        self.job, self.part, self.ranks = job, part, ranks
        rates = RATES[part.name]
        self.rates = dataclasses.replace(rates, batch=job.batch or rates.batch)
        self.log = Log(job.folder / "log.jsonl", part.name, quiet=not ranks.leads)
        self.on_gpu = job.device.startswith("cuda")
        self.learning_rate = torch.tensor(0.0, device=job.device)
        self.parameters: list[Tensor] = [value for value in part.trained.parameters() if value.requires_grad]
        self._start_warm()
        self.averages = [[value.detach().clone() for value in self.parameters] for _ in rates.ema_powers]
        self.average_rates = [torch.tensor(0.0, device=job.device) for _ in rates.ema_powers]
        self.muon, self.adamw = self._make_optimizers()
        self.gradients = self._make_gradients()
        self.losses = torch.zeros(len(part.loss_names), device=job.device)
        self.loss_sums = torch.zeros_like(self.losses)
        self.skipped = torch.zeros((), device=job.device)
        self.network: Callable[..., Tensor] = part.network
        self.steps = 0
        self.resume()
        purpose = f"train {part.name}" + (f" {ranks.index}" if ranks.index else "")
        self.generator = torch_generator(job.seed, purpose, self.steps, job.device)
        self.steps_before = self.steps

    def _start_warm(self) -> None:
        """Begin from WORK/PART/start.safetensors, an earlier version's weights, if there are any."""
        path = self.job.folder / "start.safetensors"
        if path.exists():
            self.part.trained.load_state_dict(load_file(str(path)))
            self.log(started_from=path.name)

    def _make_optimizers(self) -> tuple[Muon | None, torch.optim.AdamW]:
        named = [item for item in self.part.trained.named_parameters() if item[1].requires_grad]
        use_muon = self.rates.muon if self.job.optimizer is None else self.job.optimizer == "muon"
        by_muon = [value for name, value in named if use_muon and takes_matrix(name, value)]
        taken = {id(value) for value in by_muon}
        others = [value for value in self.parameters if id(value) not in taken]
        matrices = [value for value in others if value.ndim > 1]
        vectors = [value for value in others if value.ndim <= 1]
        adamw = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
            lr=self.learning_rate,
            betas=self.rates.betas,
            weight_decay=self.rates.weight_decay,
            fused=True,
            capturable=self.on_gpu,
        )
        for group in adamw.param_groups:
            group["lr"] = self.learning_rate
        return Muon(by_muon, self.rates.weight_decay) if by_muon else None, adamw

    def _make_gradients(self) -> list[Tensor]:
        """Places for all gradients in one flat buffer, laid out exactly like their weights as the fused AdamW wants."""
        self.flat = torch.zeros(sum(value.numel() for value in self.parameters), device=self.job.device)
        views, start = [], 0
        for value in self.parameters:
            views.append(self.flat[start : start + value.numel()].as_strided(value.shape, value.stride(), start))
            start += value.numel()
        return views

    def step(self) -> None:
        """One optimizer step; nothing here waits for the device."""
        self.backward()
        self.exchange()
        self.update()

    def backward(self) -> None:
        """Draw, forward, backward; the gradients end in the flat buffer."""
        for value in self.parameters:
            value.grad = None
        inputs = self.part.draw(self.generator, self.rates.batch)
        with precision(self.job.device):
            losses = self.network(*inputs)
        losses[0].backward()
        with torch.no_grad():
            self.flat.zero_()
            pairs = [(view, value.grad) for view, value in zip(self.gradients, self.parameters, strict=True)]
            used = [(view, gradient) for view, gradient in pairs if gradient is not None]
            torch._foreach_copy_([view for view, _ in used], [gradient for _, gradient in used])
            self.losses.copy_(losses.detach())

    def exchange(self) -> None:
        """Add up the gradients of all GPUs."""
        self.ranks.sum(self.flat)

    @torch.no_grad()
    def update(self) -> None:
        """Clip, move the weights, move their averages; a step whose gradients are not finite changes nothing."""
        self.flat /= self.ranks.count
        for view, value in zip(self.gradients, self.parameters, strict=True):
            value.grad = view
        norm = self.flat.norm()
        finite = norm.isfinite().float()
        self.flat *= (self.rates.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        # The fused AdamW leaves the weights alone where found_inf is 1.
        self.adamw.grad_scale = None
        self.adamw.found_inf = 1 - finite
        self.adamw.step()
        if self.muon is not None:
            self.muon.step(self.learning_rate, finite)
        for average, rate in zip(self.averages, self.average_rates, strict=True):
            difference = torch._foreach_sub(self.parameters, average)
            torch._foreach_mul_(difference, rate)
            torch._foreach_add_(average, difference)
        self.loss_sums += self.losses.nan_to_num(posinf=0.0)
        self.skipped += 1 - finite

    def set_rates(self, used: float) -> None:
        """Write this step's learning rate and averaging rates into the device scalars."""
        steps_now = self.steps - self.steps_before
        factor = rate_factor(steps_now, self.rates.warmup_steps, used, self.job.use_decay)
        self.learning_rate.fill_(self.rates.learning_rate * factor)
        for rate, power in zip(self.average_rates, self.rates.ema_powers, strict=True):
            rate.fill_(average_rate(self.steps, power))

    @contextlib.contextmanager
    def averaged(self, which: int = 0) -> Iterator[None]:
        """Averaged weights stand in the network inside this block."""
        kept = [value.detach().clone() for value in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.averages[which])
            try:
                yield
            finally:
                torch._foreach_copy_(self.parameters, kept)

    def checkpoint(self, which: int = 0) -> None:
        """Save everything that training needs to go on, and the averaged weights `which` as the result so far."""
        if not self.ranks.leads:
            return
        state = {
            "steps": self.steps,
            "weights": self.part.trained.state_dict(),
            "averages": self.averages,
            "adamw": self.adamw.state_dict(),
            "muon": self.muon.state_dict() if self.muon else {},
        }
        with written_whole(self.job.folder / "checkpoint.pt") as temporary:
            torch.save(state, temporary)
        with self.averaged(which):
            # A clone: on a processor the averages' place is about to be taken by the weights again.
            saved = self.part.saved.state_dict()
            weights = {name: value.detach().clone().cpu().contiguous() for name, value in saved.items()}
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
            for average, saved in zip(self.averages, state["averages"], strict=True):
                torch._foreach_copy_(average, saved)
        self.adamw.load_state_dict(state["adamw"])
        for group in self.adamw.param_groups:  # the loaded state holds a copy of the rate, not the device scalar
            group["lr"] = self.learning_rate
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])
        self.steps = int(state["steps"])
        self.log(resumed_at_step=self.steps)
