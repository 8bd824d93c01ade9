"""A run with trained adapters, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.study import run_study
from tests.cli.conftest import limner
from tests.studies import write_study

__all__ = ["limner"]


@pytest.fixture(scope="session")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole study on the tiny base, rendered."""
    folder = tmp_path_factory.mktemp("export")
    more = "rank = [1, 2]\nalpha = 5.0\ntext_encoder = true\n"
    return run_study(
        write_study(folder, tiny_folder, changes={"rank = [1, 2]\n": more}), folder / "run", until="render"
    )
