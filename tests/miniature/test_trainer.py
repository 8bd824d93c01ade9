"""One step of the miniature's training, on a network of two layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from miniature.__main__ import make_job, make_parser  # noqa: E402
from miniature.optimisers import Muon, orthogonalised, takes_matrix  # noqa: E402
from miniature.ranks import Ranks  # noqa: E402
from miniature.trainer import Part, Trainer, average_rate  # noqa: E402
from miniature.training import train  # noqa: E402
from miniature.unpack import with_small_deviations  # noqa: E402


class Losses(nn.Module):
    """Squared error of a network that should copy its input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Any) -> Any:
        return (self.network(values) - values).square().mean()[None]


def make_part(broken: bool = False) -> Part:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 24))

    def draw(generator: Any, batch: int) -> tuple[Any, ...]:
        return (torch.randn(batch, 24, generator=generator) * (float("nan") if broken else 1.0),)

    return Part("vae", Losses(network), network, network, draw, ("loss",), lambda: {"error": 1.0}, lambda r: r["error"])


def make_training(work: Path, steps: int = 1) -> Any:
    options = ["vae", "--data", str(work), "--work", str(work), "--device", "cpu", "--batch", "4"]
    return make_job(make_parser().parse_args([*options, "--steps", str(steps), "--no-decay"]))


def test_a_matrix_made_orthogonal_keeps_its_directions() -> None:
    matrices = torch.randn(3, 20, 48, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalised(matrices)
    inside = left.mT @ result @ right.mT  # (3, 20, 20), near the identity
    assert torch.linalg.svdvals(result).min() > 0.5
    assert torch.linalg.svdvals(result).max() < 1.3
    assert (inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    assert torch.allclose(orthogonalised(matrices.mT), result.mT, atol=1e-5)


def test_muon_takes_hidden_matrices_and_leaves_the_rest() -> None:
    assert takes_matrix("mid.conv.weight", torch.zeros(32, 16, 3, 3))
    assert not takes_matrix("conv_in.weight", torch.zeros(32, 1, 3, 3))
    assert not takes_matrix("norm.weight", torch.zeros(64))
    assert not takes_matrix("text.token_embedding.weight", torch.zeros(512, 64))


def test_muon_does_nothing_after_a_gradient_that_is_not_finite() -> None:
    weight = nn.Parameter(torch.ones(16, 16))
    weight.grad = torch.full((16, 16), float("inf"))
    Muon([weight], weight_decay=0.1).step(torch.tensor(0.1), finite=torch.tensor(0.0))
    assert torch.equal(weight.detach(), torch.ones(16, 16))


def test_training_learns_and_a_broken_batch_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(make_training(tmp_path), make_part(), Ranks())
    first = None
    for _ in range(800):
        trainer.set_rates(0.0)
        trainer.step()
        trainer.steps += 1
        first = float(trainer.losses[0]) if first is None else first
    assert float(trainer.losses[0]) < 0.7 * first
    trainer.part.draw = make_part(broken=True).draw
    before = [value.detach().clone() for value in trainer.parameters]
    trainer.step()
    assert int(trainer.skipped) == 1
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))


def test_gradients_are_averaged_over_processes(tmp_path: Path) -> None:
    alone, pair = (Trainer(make_training(tmp_path / name), make_part(), Ranks()) for name in ("alone", "pair"))
    for trainer in (alone, pair):
        trainer.set_rates(0.0)
        trainer.backward()
    object.__setattr__(pair.ranks, "count", 2)
    pair.flat *= 2  # what the sum over two processes with equal gradients gives
    for trainer in (alone, pair):
        trainer.update()
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters, pair.parameters, strict=True))


def test_a_checkpoint_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    train(make_training(tmp_path, steps=6), make_part())
    whole = load_file(str(tmp_path / "vae" / "ema.safetensors"))
    resumed = Trainer(make_training(tmp_path), make_part(), Ranks())
    assert resumed.steps == 6
    with resumed.averaged():
        assert all(torch.equal(value, whole[name]) for name, value in resumed.part.saved.state_dict().items())


def test_training_starts_from_given_weights(tmp_path: Path) -> None:
    start = {name: value + 1 for name, value in make_part().trained.state_dict().items()}
    (tmp_path / "vae").mkdir()
    save_file(start, str(tmp_path / "vae" / "start.safetensors"))
    trainer = Trainer(make_training(tmp_path), make_part(), Ranks())
    assert all(torch.equal(value, start[name]) for name, value in trainer.part.trained.state_dict().items())


@pytest.mark.parametrize(("power", "share"), [(7.0, 0.1), (17.0, 0.05)])
def test_an_average_reaches_back_over_its_share_of_the_steps(power: float, share: float) -> None:
    weights = torch.zeros(2000, dtype=torch.float64)
    for step in range(2000):
        rate = average_rate(step, power)
        weights *= 1 - rate
        weights[step] = rate
    steps = torch.arange(2000, dtype=torch.float64)
    mean = (weights * steps).sum()
    deviation = (weights * (steps - mean).square()).sum().sqrt() / 2000
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float(deviation) == pytest.approx(share, rel=0.15)


def test_a_started_vae_has_no_channel_lost_in_noise() -> None:
    weights = {"quant_conv.weight": torch.randn(8, 8, 1, 1), "quant_conv.bias": torch.zeros(8)}
    made = with_small_deviations(weights)
    assert torch.equal(made["quant_conv.weight"][:4], weights["quant_conv.weight"][:4])
    assert (0.5 * made["quant_conv.bias"][4:]).exp().tolist() == pytest.approx([0.05] * 4)
