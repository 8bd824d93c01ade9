"""Trained adapters as the training stage leaves them, with random weights."""

from __future__ import annotations

import torch

from limner.adapters import Adapter, LowRankUpdates, WholeWeights, save_adapter
from limner.artifacts import AdapterFolder, Manifest, file_hashes, whole_folder, write_manifest
from limner.events import Notice, Progressed
from limner.progress import Progress
from limner.records import StartRecord
from tests import recorded
from tests.adapters.test_adapter import random_low_rank


def adapter_folder(folder, adapter, start=None, training_seed=0):
    """Write `adapter` with its manifest."""
    record = recorded.adapter(
        adapter.label,
        method="lora" if adapter.low_rank else "full",
        training_seed=training_seed,
        start_from=StartRecord(label=start.label, content_hash=start.content_hash) if start else None,
    )
    with whole_folder(folder) as temporary:
        save_adapter(temporary, adapter)
        write_manifest(temporary, Manifest("train", 1, "", {}, {}, file_hashes(temporary), record=record))
    return AdapterFolder(folder)


def lora_folder(folder, base, label="lora-2", alpha=5.0, seed=1, **more):
    return adapter_folder(
        folder / label, Adapter.of(label, LowRankUpdates(random_low_rank(base, 2, alpha, seed=seed))), **more
    )


def full_folder(folder, base, label="dreambooth", shift=0.02):
    generator = torch.Generator().manual_seed(7)
    state = {
        name: tensor + shift * torch.randn(tensor.shape, generator=generator)
        for name, tensor in base.unet.state_dict().items()
    }
    return adapter_folder(folder / label, Adapter.of(label, WholeWeights({"unet": state})))


class Recorder(Progress):
    """A progress that remembers, and interrupts as Ctrl-C does when asked."""

    def __init__(self, interrupt_after=None):
        super().__init__(self.hear, every_seconds=0)
        self.notices, self.units, self.tasks = [], 0, []
        self.interrupt_after = interrupt_after

    def hear(self, event):
        if isinstance(event, Notice):
            self.notices.append(event.message)
        if isinstance(event, Progressed):
            if event.step == 0:
                self.tasks.append((event.title, event.total))
            self.units = event.step
            if self.interrupt_after is not None and self.units >= self.interrupt_after:
                raise KeyboardInterrupt


def never():
    raise AssertionError("weights were loaded")


def pngs(folder):
    """Content of every picture below `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
