"""The public names: there, documented, lazy and typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import limner

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
HEAVY = ("torch", "diffusers", "transformers", "pydantic", "numpy", "rich")


def test_importing_limner_loads_nothing_heavy_and_takes_little():
    code = (
        "import sys, time; began = time.perf_counter(); import limner; took = time.perf_counter() - began; "
        f"print(took, [name for name in {HEAVY} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, _, loaded = said.partition(" ")
    assert loaded.strip() == "[]"
    assert float(seconds) < 0.3


def test_every_public_name_is_there_and_says_what_it_is():
    for name in limner.__all__:
        value = getattr(limner, name)
        assert name == "__version__" or len(value.__doc__ or "") > 10, f"{name} has no docstring"
    assert set(limner.__all__) <= set(dir(limner))


def test_the_page_names_just_what_is_public():
    table = PAGE.read_text(encoding="utf-8").split("## All names")[1]
    assert set(re.findall(r"`(\w+)`", table)) == set(limner.__all__)


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'portray'"):
        limner.portray  # noqa: B018


def test_editors_see_what_is_lazy():
    """The names under TYPE_CHECKING come from where the lazy ones are read."""
    source = Path(limner.__file__).read_text(encoding="utf-8")
    typed = source.split("if TYPE_CHECKING:")[1].split("__all__")[0]
    for name in set(limner.__all__) - {"__version__"}:
        room = limner._ROOM_OF[name]
        assert re.search(rf"from {room} import \(?[^()]*?\b{name}\b", typed), f"{name} is not imported from {room}"
    assert (Path(limner.__file__).parent / "py.typed").is_file()
