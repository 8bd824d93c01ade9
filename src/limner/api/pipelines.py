"""An adapter in a diffusers pipeline, without changing the pipeline's files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limner.adapters import StackedLayer, attached
from limner.adapters.formats import MODULES
from limner.errors import AdapterError
from limner.exporting.source import open_source


class LoadedAdapter:
    """An adapter that acts in a pipeline until it is removed; as a context manager, until its block ends."""

    def __init__(self, label: str, undo: contextlib.ExitStack) -> None:
        self.label = label
        self._undo = undo

    def remove(self) -> None:
        """Give the pipeline its own weights back, bit for bit. To remove it twice does nothing."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def load_into(pipeline: Any, adapter: str | Path, *, scale: float = 1.0) -> LoadedAdapter:
    """Let an adapter act in a diffusers pipeline for SD 1.5, such as `StableDiffusionPipeline`.

    `adapter` is an adapter's folder of a run (RUN/adapters/VARIANT; what it was trained on top of is taken along), a
    folder or a file that `limner export` wrote, or another program's LoRA. `scale` multiplies low-rank updates, 1 being
    as they were trained; whole weights act in full. Weights take the device and the precision of the pipeline's own,
    which are kept beside them until the adapter is removed; neither peft nor another file is needed.

    Raises AdapterError for what is no adapter, does not fit the pipeline or can only be merged (a DoRA: see
    `limner export --format merged`), and for a pipeline in which another adapter acts; nothing is changed then.
    """
    modules = {name: module for name in MODULES if (module := getattr(pipeline, name, None)) is not None}
    if len(modules) < len(MODULES):
        raise AdapterError(f"{type(pipeline).__name__} has no unet and text_encoder; give a Stable Diffusion pipeline")
    if any(isinstance(layer, StackedLayer) for module in modules.values() for layer in module.modules()):
        raise AdapterError("another adapter acts in this pipeline; remove it first")
    source = open_source(Path(adapter))
    undo = contextlib.ExitStack()
    undo.enter_context(attached(modules, source.adapter(), scale))
    return LoadedAdapter(source.label, undo)
