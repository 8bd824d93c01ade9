"""The optimizers that a study may name, told apart by `name`; each registers its table from its module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from limner.settings.values import Section

DEFAULT = "adamw"
FLAT_FIELDS = ("betas", "epsilon", "weight_decay")  # that may stand in the variant, beside `optimizer`

_TABLES: dict[str, type[OptimizerTable]] = {}


class OptimizerTable(Section):
    """An optimizer's settings: `name` is a literal, and its default."""

    name: str


def register_optimizer(table: type[OptimizerTable]) -> type[OptimizerTable]:
    """Let studies name this optimizer. Raises ValueError where another has its name."""
    name = table.model_fields["name"].default
    if _TABLES.setdefault(name, table) is not table:
        raise ValueError(f'an optimizer called "{name}" is known already; give this one another name')
    return table


@contextlib.contextmanager
def registered_optimizer(table: type[OptimizerTable]) -> Iterator[None]:
    """A block in which studies may name this optimizer."""
    register_optimizer(table)
    try:
        yield
    finally:
        del _TABLES[table.model_fields["name"].default]


def all_optimizers() -> dict[str, type[OptimizerTable]]:
    """Every optimizer's table by its name, in the order in which they were registered."""
    return dict(_TABLES)


def read_optimizer(value: Any) -> OptimizerTable:
    """`"adamw"` or `{name = "adamw", …}` as that optimizer's settings. Raises ValueError for an unknown name."""
    if isinstance(value, OptimizerTable):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise ValueError("an optimizer is a name or a table with a name")
    name = table.get("name", DEFAULT)
    if not isinstance(name, str) or name not in _TABLES:
        raise ValueError(f'optimizer "{name}" is unknown; there are {", ".join(_TABLES)}')
    return _TABLES[name].model_validate({**table, "name": name})


def default_optimizer() -> OptimizerTable:
    """The optimizer of a variant that names none."""
    return read_optimizer(DEFAULT)


def with_optimizer_table(variant: Any) -> Any:
    """A variant's table with its optimizer as a table: a name becomes one, and the `FLAT_FIELDS` are laid into it.

    Raises ValueError for a field that stands in both.
    """
    if not isinstance(variant, Mapping):
        return variant
    flat = {name: variant[name] for name in FLAT_FIELDS if name in variant}
    optimizer = variant.get("optimizer", {})
    if isinstance(optimizer, OptimizerTable) and flat:
        optimizer = optimizer.model_dump(exclude_unset=True)
    table = {"name": optimizer} if isinstance(optimizer, str) else optimizer
    if not isinstance(table, Mapping) or not (flat or table):
        return variant
    for name in flat:
        if name in table:
            raise ValueError(f"{name} stands in the variant and in its optimizer; leave it in the optimizer's table")
    rest = {name: value for name, value in variant.items() if name not in flat}
    return rest | {"optimizer": {**table, **flat}}
