"""The ways of teaching that are known, by the name that a study gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from limner.adapters.parts import Part, forget_part, part_types, register_part
from limner.errors import InputError
from limner.methods.protocol import Method
from limner.settings import VariantSettings

_METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Let studies name this method. Raises InputError where another has its name, or where it says what cannot be."""
    if method.stacks and not method.keeps_gradients:
        raise InputError(f'method "{method.name}" stacks runs, whose gradients lie in rows; set keeps_gradients = True')
    if _METHODS.setdefault(method.name, method) is not method:
        raise InputError(f'a method called "{method.name}" is known already; give this one another name')
    for part in method.makes:
        register_part(part)


@contextlib.contextmanager
def registered(method: Method) -> Iterator[None]:
    """A block in which studies may name this method."""
    known = part_types()
    register(method)
    try:
        yield
    finally:
        del _METHODS[method.name]
        for part in method.makes:
            if part not in known:
                forget_part(part)


def all_methods() -> tuple[Method, ...]:
    """Every method, in the order in which they were registered."""
    return tuple(_METHODS.values())


def known_method(name: Any) -> Method | None:
    """The method of that name, or None."""
    return _METHODS.get(name) if isinstance(name, str) else None


def method_named(name: Any) -> Method:
    """The method of that name. Raises InputError, which lists those that there are."""
    method = known_method(name)
    if method is None:
        said = f'method = "{name}" is unknown' if isinstance(name, str) else "method is left out"
        raise InputError(f"{said}; there are {', '.join(_METHODS)}")
    return method


def method_of(variant: VariantSettings) -> Method:
    """The method whose settings these are."""
    return next(method for method in _METHODS.values() if type(variant) is method.settings)


def method_making(part: type[Part]) -> Method:
    """The first method whose results have parts of this type: what a result that was made elsewhere passes for."""
    return next(method for method in _METHODS.values() if part in method.makes)


def read_variant(value: Any) -> VariantSettings:
    """A table of `[[variants]]` as its method's settings. Raises ValueError for an unknown method."""
    if isinstance(value, VariantSettings):
        return value
    if not isinstance(value, dict):
        raise ValueError("a variant is a table")
    try:
        method = method_named(value.get("method"))
    except InputError as error:
        raise ValueError(str(error)) from None
    return method.settings.model_validate(value)
