"""All metrics, in the order in which they are measured and shown."""

from __future__ import annotations

from limner.errors import InputError
from limner.metrics.metric import Metric, ShownAt, role_of

_METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric: from now on it is measured and reported after those before it. ValueError where its name is taken.

    A name has no "/": what follows one in a row's metric is the model that measured it.
    """
    if metric.name in _METRICS or "/" in metric.name:
        raise ValueError(f'a metric cannot be named "{metric.name}": the name is taken or has a "/"')
    _METRICS[metric.name] = metric
    return metric


def all_metrics() -> tuple[Metric, ...]:
    """Every registered metric, in their order."""
    return tuple(_METRICS.values())


def metric_named(name: str) -> Metric:
    """The metric of a row: `likeness/facebook/dino-vits16` is measured by `likeness`. InputError for an unknown one."""
    metric = _METRICS.get(role_of(name))
    if metric is None:
        raise InputError(
            f'"{name}" is not one of the metrics {", ".join(_METRICS)}; remove scores.json and measure again'
        )
    return metric


def metrics_shown(shown_at: ShownAt) -> list[Metric]:
    """The metrics that are shown somewhere."""
    return [metric for metric in _METRICS.values() if shown_at in metric.shown]


def anchors_name(name: str) -> str:
    """The row metric whose anchors hold for another: `class_likeness/MODEL` is anchored by `likeness/MODEL`."""
    metric = metric_named(name)
    return (metric.anchored_by or metric.name) + name[len(metric.name) :]
