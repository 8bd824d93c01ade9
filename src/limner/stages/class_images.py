"""Pictures of the class for prior preservation (DreamBooth, Ruiz et al. 2023, section 3.2): class/NNNN.png.

They are topped up when more are asked for. When fewer are, the rest stays on disk, out of the manifest, so
that asking for more again costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from limner.artifacts import ClassSet, hash_file, is_current, require_folder, stage_key, write_whole
from limner.base import Base
from limner.config import ClassImages, Memory, Subject
from limner.errors import InputError
from limner.progress import SILENT, Progress
from limner.rendering import Column, Grid, Recipe, Request, encode_png, read_stamp
from limner.stages.pictures import Record, make_missing

STAGE, VERSION = "class-images", 1
PRECISION = "auto"


def make_class_images(
    base: Callable[[], Base],
    base_hash: str,
    subject: Subject,
    settings: ClassImages,
    size_px: int,
    out: Path,
    *,
    memory: Memory | None = None,
    progress: Progress = SILENT,
) -> ClassSet:
    """Make `settings.count` squares of `size_px` in `out`, by the untouched base or from `settings.folder`.

    Image N depends on (seed, N) only. No safety checker runs, as in diffusers' training script: a blacked picture
    would teach the model black. Raises InputError when the user's folder (already resolved) holds too few pictures.
    """
    require_folder(out)
    if settings.folder is not None:
        return _take_over(settings.folder, subject, settings, size_px, out, progress)
    prompt = subject.fill(settings.prompt, as_class=True)
    recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
    memory = memory or Memory()
    grid = Grid(out, base_hash, recipe, PRECISION, settings.batch_size, check=False, memory=memory)
    size = (size_px, size_px)
    cells = [
        grid.cell(Column("base"), Request(prompt, settings.negative_prompt, settings.seed, index, size), _file(index))
        for index in range(settings.count)
    ]
    read = settings.model_dump(mode="json", exclude={"batch_size", "folder"}) | {"prompt": prompt, "size_px": size_px}
    inputs = {"base": base_hash}
    record = Record(STAGE, VERSION, stage_key(STAGE, VERSION, read, inputs), read, inputs)
    if is_current(out, record.key):
        return ClassSet(out)
    plan = grid.plan(cells)
    make_missing(base, grid, plan, "class images", progress)
    images = [{"file": c.file, "index": c.request.image_index, "key": c.key} for c in cells]
    return _written(out, record, prompt, images, plan.missing)


def _take_over(
    folder: Path, subject: Subject, settings: ClassImages, size_px: int, out: Path, progress: Progress
) -> ClassSet:
    """The user's own pictures: the first `count` that can be read, by name, each its centred square at `size_px`."""
    prompt = subject.fill(settings.prompt, as_class=True)
    sources = _pictures_in(folder)
    _require_enough(folder, len(sources), settings.count)
    hashes = {path.name: hash_file(path) for path in sources}
    read = {"prompt": prompt, "count": settings.count, "size_px": size_px, "folder": True}
    record = Record(STAGE, VERSION, stage_key(STAGE, VERSION, read, hashes), read, hashes)
    if is_current(out, record.key):
        return ClassSet(out)
    images: list[dict[str, Any]] = []
    with progress.task("class images", settings.count) as advance:
        for path in sources:
            if len(images) == settings.count:
                break
            own_key = stage_key("class picture", VERSION, {"size_px": size_px}, hashes[path.name])
            if _place(path, out / _file(len(images)), own_key, size_px, progress):
                images.append({"file": _file(len(images)), "index": len(images), "key": own_key, "source": path.name})
                advance(1)
    _require_enough(folder, len(images), settings.count)
    return _written(out, record, prompt, images, 0)


def _written(out: Path, record: Record, prompt: str, images: list[dict[str, Any]], rendered: int) -> ClassSet:
    keys = {image["file"]: image["key"] for image in images}
    record.write(out, list(keys), {"prompt": prompt, "images": images, "keys": keys}, rendered)
    return ClassSet(out)


def _file(index: int) -> str:
    return f"{index:04d}.png"


def _pictures_in(folder: Path) -> list[Path]:
    from PIL import Image

    if not folder.is_dir():
        raise InputError(f"class_images.folder {folder} is not there; name a folder of pictures or leave it out")
    endings = Image.registered_extensions()
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in endings)


def _require_enough(folder: Path, there: int, count: int) -> None:
    if there < count:
        raise InputError(
            f"class_images.folder {folder} holds {there} pictures that can be used and count is {count}; "
            "add pictures or lower class_images.count"
        )


def _place(source: Path, target: Path, key: str, size_px: int, progress: Progress) -> bool:
    """Write the centred square of a picture, unless it is there; False, with a notice, when it cannot be read."""
    stamp = read_stamp(target)
    if stamp is not None and stamp.get("key") == key:
        return True
    try:
        image = _centred_square(source.read_bytes(), size_px)
    except (OSError, SyntaxError, ValueError) as error:
        progress.notice(f"class picture {source.name} is left out: {error}")
        return False
    write_whole(target, encode_png(image, {"key": key, "source": source.name}))
    return True


def _centred_square(content: bytes, size_px: int) -> np.ndarray:
    """(size_px, size_px, 3) uint8, upright."""
    import io

    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (size_px, size_px), Image.Resampling.LANCZOS))
