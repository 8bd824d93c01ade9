"""Optimizers, one module each, behind one protocol: they update the rows of weights in training."""

from limner.optimizers.flat import FlatOptimizer
from limner.optimizers.flat_adamw import FlatAdamW
from limner.optimizers.protocol import Optimizer, ParameterGroup, TrainedWeights

__all__ = ["FlatAdamW", "FlatOptimizer", "Optimizer", "ParameterGroup", "TrainedWeights"]
