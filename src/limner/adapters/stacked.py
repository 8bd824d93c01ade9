"""Layers that stand in for a base's own and compute several variants together, on rows of each one's own."""

from __future__ import annotations

from torch import nn


class StackedLayer(nn.Module):
    """Stands in for `original`. Its input's rows are one equal group a variant, variant after variant.

    What a variant adds is multiplied by its entry of `scales`, plain numbers that a captured graph holds as constants.
    """

    def __init__(self, original: nn.Module, scales: list[float]):
        super().__init__()
        self.original = original
        self.scales = scales
        self.chosen: int | None = None  # the one variant that acts, when not all do

    @property
    def acting(self) -> slice:
        """The variants that the input's rows are of."""
        return slice(None) if self.chosen is None else slice(self.chosen, self.chosen + 1)


def replace_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` where the submodule of that name is."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


def eject(module: nn.Module, kind: type[StackedLayer] = StackedLayer) -> None:
    """Put every original layer back that one of this kind stands in for; the output is then exactly what it was."""
    layers = dict(module.named_modules())
    for name, layer in layers.items():
        if isinstance(layer, kind) and not isinstance(layers[name.rpartition(".")[0]], kind):
            original: nn.Module = layer
            while isinstance(original, kind):
                original = original.original
            replace_layer(module, name, original)
