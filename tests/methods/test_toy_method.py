"""A way of teaching that only this file knows, taken through the corridor: a method is one module.

It learns a gain for each channel that an attention layer of the UNet gives out: y · (1 + reach · gain). Its sweep is
over `reach`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.adapters import Part, StackedLayer, attached, eject, load_trained
from limner.adapters.exchange.imported import read_imported
from limner.adapters.formats import load_tensors
from limner.adapters.stacked import replace_layer
from limner.api.pipelines import load_into
from limner.artifacts import AdapterFolder, hash_bytes, load_scores
from limner.config import stacks_of
from limner.errors import AdapterError, InputError
from limner.events import Notice, Progressed
from limner.exporting.export import FORMS, export
from limner.exporting.lora_tools import resize
from limner.memory import adapter_bytes, train_peak
from limner.methods import Attachment, Method, all_methods, register, registered, stored
from limner.opening import checked_study
from limner.progress import Progress
from limner.running.run import Run
from limner.settings import VariantSettings
from limner.settings.values import Numbers
from limner.study import plan_study, run_study
from tests.studies import Finished, write_study

SWEPT = ["channel_gain-0.5", "channel_gain-2"]
TAUGHT = [*SWEPT, "gain on top"]
FILE = "channel_gains.safetensors"
CHANGES = {
    "rank = [1, 2]\nprior_preservation = true": "rank = [2]",
    '[[variants]]\nname = "on top"\nmethod = "lora"\nstart_from = "full"': """
[[variants]]
method = "channel_gain"
reach = [0.5, 2.0]
prior_preservation = true

[[variants]]
name = "gain on top"
method = "channel_gain"
start_from = "full"
""",
    "[render]": "[render]\nlora_scales = [1.0, 0.5]",
}


class GainVariant(VariantSettings):
    """A gain for each channel of the attention layers' outputs."""

    method: Literal["channel_gain"]
    """"channel_gain"."""
    steps: int = 3
    """Optimizer steps."""
    learning_rate: float = 0.1
    """Peak learning rate."""
    reach: Numbers = [1.0]  # noqa: RUF012 - pydantic copies it
    """What the gains are multiplied by, or a list of such factors."""


class GainLayer(StackedLayer):
    """An output layer whose channels are multiplied, for V variants on their own rows."""

    def __init__(self, original: nn.Module, gains: list[Tensor], scales: list[float]):
        super().__init__(original, scales)
        self.gain = nn.Parameter(torch.stack(gains))  # (V, C)

    def forward(self, x: Tensor) -> Tensor:
        """y · (1 + scale · gain) of each group of rows."""
        gain = self.gain[self.acting]
        factors = 1 + gain * gain.new_tensor(self.scales[self.acting])[:, None]
        grouped = self.original(x).unflatten(0, (len(gain), -1))  # (V, B, …, C)
        return (grouped * factors.to(grouped.dtype).unflatten(1, (*[1] * (grouped.ndim - 2), -1))).flatten(0, 1)


@dataclass(frozen=True)
class ChannelGains(Part):
    """{layer name: (C,)} of the UNet, and the factor that they act with."""

    gains: Mapping[str, Tensor]
    reach: float

    kind, title, is_stackable = "channel_gains", "channel gains", True

    def modules(self):
        return ("unet",) if self.gains else ()

    @contextlib.contextmanager
    def attached(self, modules: Mapping[str, Any], strength: float = 1.0):
        try:
            for name in self.modules():
                self.stack(modules[name], name, [self], [strength], modules[name].dtype)
            yield
        finally:
            eject(modules["unet"], GainLayer)

    def save(self, folder):
        save_file({**self.gains, "reach": torch.tensor(self.reach)}, folder / FILE)

    @classmethod
    def is_stored(cls, files: Collection[str]):
        return FILE in files

    @classmethod
    def load(cls, folder):
        tensors = load_tensors(folder / FILE)
        return cls({name: tensor for name, tensor in tensors.items() if name != "reach"}, float(tensors["reach"]))

    def content_hash(self):
        return hash_bytes(b"".join(name.encode() + self.gains[name].numpy().tobytes() for name in sorted(self.gains)))

    def of(self, names):
        return ChannelGains(self.gains if "unet" in names else {}, self.reach)

    @classmethod
    def stack(cls, module, name, parts, strengths, dtype):
        layers = {}
        scales = [strength * (part.reach if part else 0.0) for part, strength in zip(parts, strengths, strict=True)]
        for each in outputs_of(module):
            original = module.get_submodule(each)
            nothing = original.weight.new_zeros(len(original.weight), dtype=dtype)
            gains = [part.gains.get(each, nothing).to(nothing) if part else nothing for part in parts]
            layers[each] = GainLayer(original, gains, scales)
            replace_layer(module, each, layers[each])
        return layers


def outputs_of(module: nn.Module) -> list[str]:
    """Names of the output layers of a module's attentions."""
    return [name for name, layer in module.named_modules() if name.endswith("to_out.0") and type(layer) is nn.Linear]


def untaught(module: nn.Module, reach: float) -> ChannelGains:
    """Gains of nothing, where training begins."""
    weights = {name: module.get_submodule(name).weight for name in outputs_of(module)}
    return ChannelGains({name: weight.new_zeros(len(weight), dtype=torch.float32) for name, weight in weights.items()},
                        reach)  # fmt: skip


@dataclass
class GainsInTraining(Attachment):
    reaches: list[float] = field(kw_only=True)

    is_stacked = True

    def parts(self, read, dtype, variant):
        gains = {name.removeprefix("unet.").removesuffix(".gain"): stored(read(name)) for name in self.parameters}
        return [ChannelGains(gains, self.reaches[variant])]


@dataclass(frozen=True)
class GainShapes:
    def attach(self, module):
        ChannelGains.stack(module, "unet", [untaught(module, 1.0)], [1.0], torch.float32)

    def count(self, module):
        return sum(gain.numel() for gain in untaught(module, 1.0).gains.values())


class GainMethod(Method):
    name = "channel_gain"
    settings = GainVariant
    description = "channel gains"
    axes = ("reach",)
    stacks = keeps_gradients = True
    makes = (ChannelGains,)

    def trained_modules(self, variant):
        return ("unet",)

    def attach(self, modules, names, runs, start, device):
        reaches = [run.point["reach"] for run in runs]
        begun = [untaught(modules["unet"], reach) for reach in reaches]
        layers = ChannelGains.stack(modules["unet"], "unet", begun, [1.0] * len(runs), torch.float32)
        parameters = {f"unet.{name}.gain": layer.gain for name, layer in layers.items()}
        return GainsInTraining(parameters, start, len(runs), layers=list(layers.values()), reaches=reaches)

    def footprint(self, run):
        return GainShapes()

    def disk_bytes(self, run, module):
        return 4 * GainShapes().count(module("unet"))

    def size(self, run):
        return -run.point["reach"]  # so that it is not the last of the sweep


pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")  # rows of a stack lie far apart


@pytest.fixture(scope="module", autouse=True)
def _known():
    """The method is known in this module's tests and forgotten after them."""
    with registered(GainMethod()):
        yield
    assert "channel_gain" not in [method.name for method in all_methods()]


@pytest.fixture(scope="module")
def finished(_known, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("toy")
    study = write_study(folder, tiny_folder, changes=CHANGES)
    return Finished(study, folder / "run", run_study(study, folder / "run"))


def adapter(run: Path, label: str) -> AdapterFolder:
    return AdapterFolder(run / "adapters" / label)


def gains_of(run: Path, label: str) -> dict[str, Tensor]:
    return load_file(run / "adapters" / label / FILE)


def test_it_is_swept_over_its_own_axis_and_trained_beside_the_others(finished):
    opened = checked_study(finished.study)
    assert [run.label for run in opened.runs] == ["full", "lora-2", *TAUGHT]
    for label, reach in zip(TAUGHT, (0.5, 2.0, 1.0), strict=True):
        record, gains = adapter(finished.run, label).record, gains_of(finished.run, label)
        assert (record.method, record.method_record) == ("channel_gain", {"reach": reach})
        assert gains.pop("reach") == reach
        assert gains.keys() == set(outputs_of(opened.parts.shapes.pristine("unet")))
        assert all(gain.any() for gain in gains.values())
    first, second = (gains_of(finished.run, label) for label in SWEPT)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_sweep_is_one_pass_that_gives_what_each_gives_alone(finished, tiny_folder, tmp_path):
    stacks = [[run.label for run in stack] for stack in stacks_of(checked_study(finished.study).runs)]
    assert stacks == [["full"], ["lora-2"], SWEPT, ["gain on top"]]
    alone = write_study(tmp_path, tiny_folder, changes=CHANGES | {"[render]": "[render]"})
    alone.write_text(alone.read_text().replace("reach = [0.5, 2.0]", 'reach = [2.0]\nname = "alone"'))
    shutil.copytree(finished.run, tmp_path / "run")
    run_study(alone, tmp_path / "run", until="train")
    together, single = gains_of(finished.run, SWEPT[1]), gains_of(tmp_path / "run", "alone")
    torch.testing.assert_close(single, together, rtol=1e-3, atol=1e-4)


class Stopping(Progress):
    """Presses Ctrl-C after a step of the activity `title`; remembers the notices."""

    def __init__(self, title: str, step: int):
        super().__init__(self.hear, every_seconds=0)
        self.title, self.step, self.said = title, step, []

    def hear(self, event):
        if isinstance(event, Notice):
            self.said.append(event.message)
        if isinstance(event, Progressed) and (event.title, event.step) == (self.title, self.step) and not event.last:
            raise KeyboardInterrupt


def test_stopped_it_resumes_to_the_same_bytes_and_nothing_is_rendered_again(finished, tmp_path):
    run = Path(shutil.copytree(finished.run, tmp_path / "run"))
    for label in SWEPT:
        shutil.rmtree(run / "adapters" / label)
    with pytest.raises(KeyboardInterrupt):
        run_study(finished.study, run, until="train", progress=Stopping(f"train {', '.join(SWEPT)}", 2))
    assert not (run / "adapters" / SWEPT[0]).exists()
    resumed = Stopping("", 0)
    run_study(finished.study, run, until="render", progress=resumed)
    assert any("continuing after step 2 of 3" in line for line in resumed.said)
    for label in SWEPT:
        assert (run / "adapters" / label / FILE).read_bytes() == (finished.run / "adapters" / label / FILE).read_bytes()
    manifests = [(folder / "renders" / "manifest.json").read_bytes() for folder in (run, finished.run)]
    assert manifests[0] == manifests[1]


def test_it_is_rendered_at_every_strength_and_the_plan_counts_so(finished):
    columns = ["base", "full", *(f"{label}{end}" for label in ("lora-2", *TAUGHT) for end in ("", "x0.5"))]
    pictures = {column: (finished.run / "renders" / column / "photo" / "3.png").read_bytes() for column in columns}
    assert len(set(pictures.values())) == len(columns)
    render = next(task for task in plan_study(finished.study, finished.run).tasks if task.stage == "render")
    assert render.what == f"{2 * len(columns)} pictures"


def test_several_act_in_one_pass_each_on_its_own_rows(finished, tiny_base):
    parts = [None, *(load_trained(adapter(finished.run, label)).parts["channel_gains"] for label in SWEPT)]
    strengths = [1.0, 1.0, 0.25]
    x, embeds = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8), torch.linspace(-1, 1, 77 * 16).reshape(1, 77, 16)
    unet = tiny_base.unet
    with torch.no_grad():
        own = [unet(x, 500, embeds).sample]
        for label, strength in zip(SWEPT, strengths[1:], strict=True):
            with attached(tiny_base.modules(), load_trained(adapter(finished.run, label)), strength):
                own.append(unet(x, 500, embeds).sample)
        ChannelGains.stack(unet, "unet", parts, strengths, torch.float32)
        together = unet(x.repeat(3, 1, 1, 1), 500, embeds.repeat(3, 1, 1)).sample.split(1)
        eject(unet)
        assert torch.equal(unet(x, 500, embeds).sample, own[0])
    assert all(not torch.allclose(one, other, atol=1e-3) for one, other in pairwise(own))
    for alone, stacked in zip(own, together, strict=True):
        torch.testing.assert_close(stacked, alone, rtol=1e-4, atol=1e-5)


def test_it_is_measured_and_reported(finished):
    rows = load_scores(finished.run / "scores.json").rows
    for metric in ("likeness/efficientnet-lite0", "likeness_gain/efficientnet-lite0", "prompt_fidelity/base"):
        assert set(TAUGHT) <= {row.variant for row in rows if row.metric == metric}
    page = finished.page.read_text()
    markdown = finished.page.with_name("README.md").read_text()
    for said in ("reach 0.5", "reach 2", "reach 0.5, strength 0.5", "reach 1, on full"):
        assert said in page
        assert said in markdown


@pytest.mark.parametrize("form", FORMS)
def test_formats_that_cannot_hold_it_refuse_it(finished, tmp_path, form):
    for label in (SWEPT[0], "gain on top"):
        with pytest.raises(AdapterError, match=r"holds channel_gains.*, for which other programs have no format"):
            export(finished.run / "adapters" / label, tmp_path / "out.safetensors", form)
    assert not any(tmp_path.iterdir())


def test_what_takes_loras_alone_refuses_it(finished, tmp_path):
    folder = finished.run / "adapters" / SWEPT[0]
    with pytest.raises(AdapterError, match="channel_gains; only low-rank updates can be taken in"):
        read_imported(folder)
    with pytest.raises(AdapterError, match="channel_gains"):
        resize(folder, tmp_path / "small.safetensors", 1)


def test_a_pipeline_in_which_it_acts_takes_no_other(finished, tiny_base):
    pipeline = SimpleNamespace(unet=tiny_base.unet, text_encoder=tiny_base.text_encoder)
    acting = attached(tiny_base.modules(), load_trained(adapter(finished.run, SWEPT[0])))
    with acting, pytest.raises(AdapterError, match="another adapter acts"):
        load_into(pipeline, finished.run / "adapters" / "lora-2")
    with load_into(pipeline, finished.run / "adapters" / "lora-2"):
        pass


def test_its_memory_and_disk_are_predicted(finished):
    opened = checked_study(finished.study)
    run = next(run for run in opened.runs if run.label == SWEPT[0])
    count = sum(gain.numel() for name, gain in gains_of(finished.run, run.label).items() if name != "reach")
    bytes_each = 2 + 2 + 2 + 8  # in bf16: weight, what makes it exact, gradient, moments
    few, many = (train_peak(run, opened.study, opened.parts, stacked=stacked) for stacked in (100, 200))
    assert few.parts["trained weights and moments"] == 100 * count * bytes_each
    assert many.parts["trained weights and moments"] == 200 * count * bytes_each
    assert many.bytes > few.bytes > train_peak(run, opened.study, opened.parts).bytes > 0
    assert adapter_bytes(run, opened.parts.shapes) == 4 * count


def test_how_many_fit_a_gpu_together_is_asked_of_the_run_that_its_method_calls_the_largest(
    tiny_folder, tmp_path, monkeypatch
):
    study = write_study(tmp_path, tiny_folder, changes=CHANGES)
    run = Run(checked_study(study), tmp_path / "run", torch.device("cuda"))
    asked = []
    monkeypatch.setattr("limner.running.run.largest_stack", lambda one, count, *_: asked.append(one.label) or count)
    swept = [one for one in run.opened.runs if one.label in SWEPT]
    assert run._trained_at_once(swept[::-1]) == 2
    assert asked == [SWEPT[0]]


def test_its_settings_are_in_the_lock_file(finished):
    lock = json.loads((finished.run / "study.lock.json").read_text())
    assert lock["study"]["variants"][2]["reach"] == [0.5, 2.0]


def test_a_method_that_stacks_must_keep_its_gradients_in_rows():
    class Careless(GainMethod):
        name, keeps_gradients = "careless", False

    with pytest.raises(InputError, match=r'"careless" stacks runs, .*keeps_gradients'):
        register(Careless())
