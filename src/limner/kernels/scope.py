"""Objects that the code called inside their `with` block can look up, such as a side stream."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import ClassVar, Self


class Scope:
    """Base of such objects. Each subclass has its own variable; nested blocks restore the outer object at their end."""

    _variable: ClassVar[ContextVar]
    _token: Token

    def __init_subclass__(cls) -> None:
        cls._variable = ContextVar(cls.__name__, default=None)

    def __enter__(self) -> Self:
        self._token = self._variable.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._variable.reset(self._token)

    @classmethod
    def current(cls) -> Self | None:
        """The object whose block the caller is in, or None."""
        return cls._variable.get()
