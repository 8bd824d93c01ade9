"""The examples of docs/python.md, run as they stand and in their order."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.drawn import write_photos

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names(tiny_folder, tmp_path_factory):
    """What the examples define, after all of them ran."""
    folder = tmp_path_factory.mktemp("python")
    write_photos(folder / "photos")
    shutil.copytree(tiny_folder, folder / "base")
    made = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text = PAGE.read_text(encoding="utf-8")
        for example in EXAMPLE.finditer(text):
            line = text.count("\n", 0, example.start(1))
            exec(compile("\n" * line + example.group(1), str(PAGE), "exec"), made)
    return made


def test_the_examples_make_what_they_say(names):
    folder = names["folder"]
    assert (folder / "runs/felix/report/index.html").is_file()
    assert list(names["run"].adapters) == ["dreambooth", "lora-1", "lora-2"]
    assert [task.name for task in names["plan"].to_do] == ["render", "measure", "report"]
    assert set(names["likeness"]) == {"base", "dreambooth", "lora-1", "lora-2"}
    assert (folder / names["picture"]).is_file()
    assert not (folder / "runs/other").exists()
    assert "rank 0 is not possible" in names["faults"][0]
    assert names["steps"][0][:3] == (("longer",), 0, 5)
    assert names["steps"][-1][1] == 5
    assert names["steps"][-1][3]["longer"] > 0
