"""A room to train in: one run's folders, a base that counts its loading, what was said, and what is compared."""

from __future__ import annotations

import signal

import torch

from limner.artifacts import AdapterFolder
from limner.events import Notice, Progressed
from limner.progress import Progress
from limner.stages.context import Context
from limner.stages.train import TrainingRequest, train
from tests.training.sets import SUBJECT, write_class_set, write_photo_set

EVERYTHING = {
    "steps": 3,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate_schedule": "cosine",
    "warmup_steps": 1,
    "ema_decay": 0.9,
    "snr_gamma": 5.0,
    "noise_offset": 0.1,
    "flip": True,
    "text_encoder": True,
    "prior_preservation": True,
}


class Room:
    """One run's folders, a base that counts its loading, and what was said."""

    def __init__(self, folder, base):
        self.folder, self.base, self.loaded, self.said = folder, base, 0, []
        self.photo_set = write_photo_set(folder / "photos")
        self.class_set = write_class_set(folder / "class")

    def load(self):
        self.loaded += 1
        return self.base

    def notice(self, message):
        self.said.append(message)

    def train(self, run, **options) -> AdapterFolder:
        return self.train_together([run], **options)[0]

    def train_together(self, runs, *, name="run", validate=None, **options) -> list[AdapterFolder]:
        given = {"class_set": self.class_set, "start": None, "progress": Speaking(self.said)} | options
        place = self.folder / name
        orders = [TrainingRequest(r, place / "adapters" / r.label, place / "work" / r.label, validate) for r in runs]
        class_set, start = given.pop("class_set"), given.pop("start")
        context = Context(SUBJECT, self.load, "base-hash", progress=given.pop("progress"))
        return train(orders, context, self.photo_set, class_set, start, **given)


class Speaking(Progress):
    """A progress that keeps notices and can interrupt the step after `stop_after`."""

    def __init__(self, said, stop_after=None):
        super().__init__(self.hear, every_seconds=0)
        self.said, self.stop_after = said, stop_after

    def hear(self, event):
        if isinstance(event, Notice):
            self.said.append(event.message)
        steps = isinstance(event, Progressed) and event.unit == "steps" and not event.last
        if steps and event.step == self.stop_after:
            signal.raise_signal(signal.SIGINT)


def snapshot(base):
    """Every tensor of the base, and how it is held."""
    return {
        f"{name}.{key}": (tensor.clone(), tensor.dtype, tensor.stride())
        for name, module in {**base.modules(), "vae": base.vae}.items()
        for key, tensor in module.state_dict().items()
    }


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key][0], second[key][0]) and first[key][1:] == second[key][1:] for key in first
    )


def same_adapter(first: AdapterFolder, second: AdapterFolder) -> bool:
    return first.manifest.files == second.manifest.files
