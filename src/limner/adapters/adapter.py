"""One type for everything training makes: optional full weights and optional low-rank updates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.adapters.low_rank import LowRankUpdate, eject, inject
from limner.artifacts import hash_bytes
from limner.errors import AdapterError

MODULES = ("unet", "text_encoder")


@dataclass(frozen=True)
class Adapter:
    """What a variant adds to its base.

    `full` maps a module's name ("unet", "text_encoder") to a whole state dict that replaces its own; `low_rank`
    maps a module's name to {layer name: update}. Either may be empty: the untouched base has both empty, a
    DreamBooth result the first, a LoRA the second, a LoRA on top of a DreamBooth result both.
    """

    label: str
    full: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    low_rank: Mapping[str, Mapping[str, LowRankUpdate]] = field(default_factory=dict)
    full_hash: str = ""  # of the full weights: cells that share it are rendered together

    @property
    def is_untouched(self) -> bool:
        """Whether this is the base as it is."""
        return not self.full and not self.low_rank


def untouched(label: str = "base") -> Adapter:
    """The base as it is, as an adapter that changes nothing."""
    return Adapter(label)


def hash_weights(full: Mapping[str, Mapping[str, Tensor]]) -> str:
    """SHA-256 over full weights: names, types, shapes and bytes; "" when there are none."""
    if not full:
        return ""
    parts = []
    for module, state in sorted(full.items()):
        for name, tensor in sorted(state.items()):
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            parts.append(f"{module}.{name} {tensor.dtype} {tuple(tensor.shape)} {hash_bytes(content)}")
    return hash_bytes("\n".join(parts).encode())


@contextlib.contextmanager
def attached(modules: Mapping[str, nn.Module], adapter: Adapter, strength: float = 1.0) -> Iterator[None]:
    """Attach `adapter` to a base's modules for the time of the block; afterwards they are bit for bit what they were.

    `modules` is `Base.modules()`. `strength` multiplies the low-rank updates (1 is as trained).
    """
    kept: dict[str, dict[str, Tensor]] = {}
    try:
        for name, state in adapter.full.items():
            kept[name] = _replace_weights(modules[name], state)
        for name, updates in adapter.low_rank.items():
            inject(modules[name], updates, strength)
        yield
    finally:
        for name in adapter.low_rank:
            eject(modules[name])
        for name, state in kept.items():
            modules[name].load_state_dict(state)


def _replace_weights(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load `state` and return what was there. Raises AdapterError, before anything is changed, when it does not fit."""
    own = module.state_dict()
    absent, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if absent or unknown:
        raise AdapterError(
            f"full weights do not fit this base: {len(absent)} missing, {len(unknown)} unknown, "
            f"first {(absent + unknown)[0]}"
        )
    misshapen = [name for name, tensor in own.items() if tensor.shape != state[name].shape]
    if misshapen:
        name = misshapen[0]
        raise AdapterError(
            f"full weights do not fit this base: {len(misshapen)} of another shape, "
            f"first {name}: {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        )
    kept = {name: tensor.detach().clone() for name, tensor in own.items()}
    module.load_state_dict(state)
    return kept
