"""The whole corridor on the embedded miniature, from one photo to a report."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import torch

from limner.artifacts import require_folder, write_changed
from limner.errors import InputError, PhotoError
from limner.opening import LOCK
from limner.progress import SILENT, Progress
from limner.study import run_study

HERE = Path(__file__).parent
CHELSEA = HERE / "photos"
CHELSEA_CONSENT = "Chelsea the cat, photographed by Stéfan van der Walt, CC0; from scikit-image's example pictures"
OWN_CONSENT = "the user's own photos"


def run_demo(
    out: Path,
    photos: Path | None = None,
    class_noun: str = "cat face",
    *,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Write the demo's study into `out`, run it, and return the report. Run again to go on where it stopped."""
    if photos is not None and not photos.is_dir():
        raise PhotoError(f"--photos {photos}: there is no such folder; name a folder of photos of one cat or dog")
    require_folder(out)
    study = out / "study.toml"
    is_new, made = not study.exists(), [folder for folder in [out, *out.parents] if not folder.exists()]
    write_changed(study, demo_study(photos, class_noun).encode())
    try:
        return run_study(study, out, device=device, progress=progress)
    except InputError:  # what is wrong is said; a study that cannot run is not left behind
        if is_new and not (out / LOCK).exists():
            study.unlink()
            with contextlib.suppress(OSError):  # not empty
                for folder in made:
                    folder.rmdir()
        raise


def demo_study(photos: Path | None, class_noun: str) -> str:
    """The demo's study file, with the photos and the class noun filled in."""
    text = (HERE / "study.toml").read_text(encoding="utf-8")
    values = {
        "photos": str((photos or CHELSEA).resolve()),
        "class_noun": class_noun,
        "consent": CHELSEA_CONSENT if photos is None else OWN_CONSENT,
        "references": str(HERE / "references"),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", json.dumps(value, ensure_ascii=False)[1:-1])
    return text
