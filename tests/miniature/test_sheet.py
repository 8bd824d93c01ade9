"""The sheet of what the family paints untaught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
cv2 = pytest.importorskip("cv2")

from miniature import sheet  # noqa: E402
from miniature.family import load_family  # noqa: E402
from miniature.sheets import LABEL_PX  # noqa: E402


def test_every_prompt_has_its_picture_from_a_seed_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ("a photo of cat face",) * 2
    monkeypatch.setattr(sheet, "SHEET_PROMPTS", prompts)
    target = tmp_path / "sheet.png"
    sheet.main([str(target), "--device", "cpu", "--seed", "5"])
    cells = np.split(cv2.imread(str(target))[LABEL_PX:, :, ::-1], sheet.COLUMNS, axis=1)
    family = load_family(sheet.FAMILY, torch.device("cpu"))
    side = cells[0].shape[:2]
    expected = [cv2.resize(p, side, interpolation=cv2.INTER_AREA) for p in family.render(prompts, [5, 6])]
    assert all(np.array_equal(cell, picture) for cell, picture in zip(cells, expected, strict=False))
    assert not np.array_equal(cells[0], cells[1])
    assert all((cell == 255).all() for cell in cells[2:])
