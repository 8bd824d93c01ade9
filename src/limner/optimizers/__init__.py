"""Optimizers, one module each, behind one protocol: they update the rows of weights in training."""

from limner.optimizers.adamw import AdamWSettings
from limner.optimizers.adamw8bit import AdamW8bitSettings
from limner.optimizers.flat import FlatOptimizer
from limner.optimizers.flat_adamw import FlatAdamW
from limner.optimizers.protocol import Optimizer, ParameterGroup, TrainedWeights
from limner.optimizers.settings import OptimizerSettings
from limner.settings.optimizer import register_optimizer, registered_optimizer

for settings in (AdamWSettings, AdamW8bitSettings):
    register_optimizer(settings)

__all__ = [
    "AdamW8bitSettings",
    "AdamWSettings",
    "FlatAdamW",
    "FlatOptimizer",
    "Optimizer",
    "OptimizerSettings",
    "ParameterGroup",
    "TrainedWeights",
    "register_optimizer",
    "registered_optimizer",
]
