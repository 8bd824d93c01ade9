"""Whole weights that stand in for a base's own: what DreamBooth makes.

unet.safetensors, text_encoder.safetensors    as diffusers and transformers name them
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.adapters.formats import MODULES, load_tensors
from limner.adapters.parts import Part
from limner.artifacts import hash_bytes
from limner.errors import AdapterError


@dataclass(frozen=True)
class WholeWeights(Part):
    """State dicts by module ("unet", "text_encoder"), each of which replaces the module's own."""

    state: Mapping[str, Mapping[str, Tensor]]

    kind = "weights"
    title = "whole weights"
    replaces_all = True

    def modules(self) -> tuple[str, ...]:
        """Those whose weights it holds."""
        return tuple(self.state)

    @contextlib.contextmanager
    def attached(self, modules: Mapping[str, Any], strength: float = 1.0) -> Iterator[None]:
        """Swap them in for the time of the block."""
        kept: dict[str, dict[str, Tensor]] = {}
        try:
            for name, state in self.state.items():
                kept[name] = _replace_weights(modules[name], state)
            yield
        finally:
            for name, state in kept.items():
                modules[name].load_state_dict(state)

    def save(self, folder: Path) -> None:
        """One file a module."""
        for module, state in self.state.items():
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
                folder / weights_file(module),
                metadata={"format": "pt"},  # transformers refuses a file that does not say it
            )

    @classmethod
    def is_stored(cls, files: Collection[str]) -> bool:
        """Whether a module's file is among them."""
        return any(weights_file(module) in files for module in MODULES)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Those of the modules that have a file."""
        files = {module: folder / weights_file(module) for module in MODULES}
        return cls({module: load_tensors(file) for module, file in files.items() if file.is_file()})

    def content_hash(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all tensors."""
        parts = []
        for module, state in sorted(self.state.items()):
            for name, tensor in sorted(state.items()):
                content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                parts.append(f"{module}.{name} {tensor.dtype} {tuple(tensor.shape)} {hash_bytes(content)}")
        return hash_bytes("\n".join(parts).encode())

    @classmethod
    def loading_lines(cls, folder: str, files: Collection[str]) -> list[str]:
        """A state dict loaded a module."""
        return [
            f"pipeline.{module}.load_state_dict(load_file({json.dumps(f'{folder}/{weights_file(module)}')}))"
            for module in MODULES
            if weights_file(module) in files
        ]


def weights_file(module: str) -> str:
    """The file of a module's whole weights."""
    return f"{module}.safetensors"


def _replace_weights(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load `state` and return what was there. Raises AdapterError, before anything is changed, when it does not fit."""
    module_state = module.state_dict()
    absent, unknown = sorted(module_state.keys() - state.keys()), sorted(state.keys() - module_state.keys())
    if absent or unknown:
        raise AdapterError(
            f"full weights do not fit this base: {len(absent)} missing, {len(unknown)} unknown, "
            f"first {(absent + unknown)[0]}"
        )
    misshapen = [name for name, tensor in module_state.items() if tensor.shape != state[name].shape]
    if misshapen:
        name = misshapen[0]
        raise AdapterError(
            f"full weights do not fit this base: {len(misshapen)} of another shape, "
            f"first {name}: {tuple(state[name].shape)} instead of {tuple(module_state[name].shape)}"
        )
    kept = {name: tensor.detach().clone() for name, tensor in module_state.items()}
    module.load_state_dict(state)
    return kept
