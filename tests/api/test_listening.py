"""Where a run shows how far it is when nobody says: in a notebook, on a terminal, nowhere else."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace

import pytest

from limner.api.listening import default_listener, progress_for
from limner.events import Started
from limner.running.display import Bar


class Display:
    """IPython's: what cells show, each in its place."""

    def __init__(self):
        self.cells = []

    def __call__(self, shown, display_id=False):
        self.cells.append(shown)
        place = len(self.cells) - 1
        return SimpleNamespace(update=lambda another: self.cells.__setitem__(place, another)) if display_id else None


@pytest.fixture
def notebook(monkeypatch):
    """A Jupyter kernel as rich knows one; gives what its cell shows."""

    class ZMQInteractiveShell:
        pass

    display = Display()
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display, HTML=str))
    return display


def work(progress):
    progress.emit(Started(task="renders", stage="render", place=2, tasks=3))
    with progress.task("render", 2) as advance:
        advance(1)
        progress.notice("something <odd>")
        advance(1)


def test_a_notebook_shows_one_bar_in_its_place_and_every_notice(notebook):
    work(progress_for(None))
    bar, notice = notebook.cells
    assert bar.startswith('<progress value="2" max="2"></progress> [2/3] render: 2 of 2 pictures')
    assert notice == "<div>note: something &lt;odd&gt;</div>"


def test_a_terminal_has_its_bar_and_elsewhere_it_is_silent(monkeypatch, capfd):
    assert default_listener() is None
    work(progress_for(None))
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(default_listener(), Bar)


def test_a_listener_hears_of_it_instead(notebook):
    heard = []
    work(progress_for(heard.append))
    assert [event.type for event in heard] == ["started", "progress", "notice", "progress"]
    assert notebook.cells == []
