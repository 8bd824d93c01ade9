"""Pictures of the class for prior preservation (DreamBooth, Ruiz et al. 2023, section 3.2): class/NNNN.png.

They are topped up when more are asked for. When fewer are, the rest stays on disk, out of the manifest, so
that asking for more again costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limner.artifacts import (
    ClassSet,
    Size,
    Specification,
    is_current,
    require_folder,
    stage_key,
    write_changed,
)
from limner.config import ClassImages, Subject
from limner.errors import InputError
from limner.photos import Listed
from limner.records import ClassImage, ClassSetRecord
from limner.rendering import Column, Grid, Recipe, Request, encode_png
from limner.rendering.grid import Planned
from limner.stages.brought import BroughtReader, enlargement, hashes_of_brought, list_brought
from limner.stages.context import Context
from limner.stages.pictures import Draft, make_missing

STAGE, VERSION = "class-images", 1
PRECISION = "auto"
FOLDER, READER_VERSION = "class_images.folder", 2  # 1: read without colour profiles, depth and limits


def make_class_images(
    context: Context,
    settings: ClassImages,
    size_px: int,
    out: Path,
    *,
    shapes: Mapping[Size, int] | None = None,
) -> ClassSet:
    """Make `settings.count` squares of `size_px` in `out`, by the untouched base or from `settings.folder`.

    `shapes` are other sizes instead, with how many examples the photos have of each, so that class images share them.
    Image N depends on (seed, N) and its size only. No safety checker runs, as in diffusers' training script: a blacked
    picture would teach the model black. Raises InputError when the user's folder (already resolved) holds too few
    pictures, and when there are fewer than shapes.
    """
    require_folder(out)
    shares = shapes or {(size_px, size_px): 1}
    sizes, read_shapes = sizes_in_turn(shares, settings.count), _read_shapes(shares, size_px)
    if settings.folder is not None:
        specification = specify_class_images(context.base_hash, context.subject, settings, size_px, shapes)
        return _take_over(settings.folder, context, specification, settings, size_px, sizes, out)
    prompt = context.subject.fill(settings.prompt, as_class=True)
    grid, cells = _grid(context, settings, sizes, out)
    draft = Draft(specify_class_images(context.base_hash, context.subject, settings, size_px, shapes))
    if is_current(out, draft.specification.key):
        return ClassSet(out)
    plan = grid.plan(cells)
    make_missing(context, grid, plan, STAGE)
    images = [
        ClassImage(file=c.file, index=c.request.image_index, key=c.key, size=_size(c.request.size, read_shapes))
        for c in cells
    ]
    return _written(out, draft, prompt, images, plan.missing)


def count_missing_class_images(
    context: Context, settings: ClassImages, size_px: int, shapes: Mapping[Size, int], out: Path
) -> int:
    """How many pictures `make_class_images` with the same arguments would make; no weights are loaded."""
    if settings.folder is not None:
        return settings.count
    grid, cells = _grid(context, settings, sizes_in_turn(shapes or {(size_px, size_px): 1}, settings.count), out)
    return grid.count_missing(cells)


def _grid(context: Context, settings: ClassImages, sizes: Sequence[Size], out: Path) -> tuple[Grid, list[Planned]]:
    prompt = context.subject.fill(settings.prompt, as_class=True)
    recipe = Recipe(settings.sampler, settings.steps, settings.guidance_scale)
    grid = Grid(out, context.base_hash, recipe, PRECISION, settings.batch_size, check=False, memory=context.memory)
    return grid, [
        grid.cell(Column("base"), Request(prompt, settings.negative_prompt, settings.seed, index, size), _file(index))
        for index, size in enumerate(sizes)
    ]


def specify_class_images(
    base_hash: str, subject: Subject, settings: ClassImages, size_px: int, shapes: Mapping[Size, int] | None = None
) -> Specification:
    """What class images follow from: rendered by the base, or taken from `settings.folder` (already resolved)."""
    prompt = subject.fill(settings.prompt, as_class=True)
    read_shapes = _read_shapes(shapes or {(size_px, size_px): 1}, size_px)
    if settings.folder is None:
        read = settings.model_dump(mode="json", exclude={"batch_size", "folder"}) | {"prompt": prompt} | read_shapes
        return Specification(STAGE, VERSION, read, {"base": base_hash})
    hashes = hashes_of_brought(list_brought(settings.folder, FOLDER))
    read = {"prompt": prompt, "count": settings.count, "folder": True, "reader": READER_VERSION} | read_shapes
    return Specification(STAGE, VERSION, read, hashes)


def sizes_in_turn(shares: Mapping[Size, int], count: int) -> list[Size]:
    """A size for each of `count` pictures: every one once, then always the one that is furthest behind its share.

    What the first get does not depend on `count`, so sets can be topped up. Raises InputError when `count`, unless it
    is 0, is less than there are sizes.
    """
    if 0 < count < len(shares):
        raise InputError(
            f"class_images.count is {count} and the photos have {len(shares)} shapes, each of which needs a class "
            'image; raise it, or set prepare.shape = "square"'
        )
    total, taken = sum(shares.values()), dict.fromkeys(shares, 0)
    sizes = []
    for number in range(count):
        behind = {size: share * (number + 1) - taken[size] * total for size, share in shares.items()}
        unseen = [size for size in shares if not taken[size]]
        chosen = unseen[0] if unseen else max(behind, key=lambda size: behind[size])
        taken[chosen] += 1
        sizes.append(chosen)
    return sizes


def _read_shapes(shares: Mapping[Size, int], size_px: int) -> dict[str, Any]:
    """What the key names of the sizes; of squares alone, what it named before there were buckets."""
    square = {"size_px": size_px}
    if set(shares) == {(size_px, size_px)}:
        return square
    shared = math.gcd(*shares.values())
    return square | {"shapes": [[*size, share // shared] for size, share in shares.items()]}


def _size(size: Size, read_shapes: dict[str, Any]) -> Size | None:
    """What a picture's record says of its size: nothing in a set of squares."""
    return size if "shapes" in read_shapes else None


def _take_over(
    folder: Path,
    context: Context,
    specification: Specification,
    settings: ClassImages,
    size_px: int,
    sizes: Sequence[Size],
    out: Path,
) -> ClassSet:
    """The user's own pictures: the first that can be read, by name, the middle of each at the size whose turn it is."""
    listing, read, hashes = list_brought(folder, FOLDER), specification.settings, specification.inputs
    reader = BroughtReader(FOLDER, listing, hashes, size_px)
    _require_enough(folder, len(listing.photos), settings.count, reader.why_too_few())
    draft = Draft(specification)
    if is_current(out, specification.key):
        return ClassSet(out)
    images: list[ClassImage] = []
    with reader, context.progress.task(STAGE, settings.count) as advance:
        for picture in listing.photos:
            if len(images) == settings.count:
                break
            size, index = sizes[len(images)], len(images)
            measured = {"size_px": size[0]} if size[0] == size[1] else {"size": list(size)}
            picture_key = stage_key("class picture", READER_VERSION, measured, hashes.get(picture.name))
            if _write_picture(reader, picture, out / _file(index), picture_key, size):
                shown, source = _size(size, read), picture.name
                images.append(ClassImage(file=_file(index), index=index, key=picture_key, size=shown, source=source))
                advance(1)
    reader.tell(context.progress)
    _require_enough(folder, len(images), settings.count, reader.why_too_few())
    return _written(out, draft, read["prompt"], images, 0)


def _written(out: Path, draft: Draft, prompt: str, images: list[ClassImage], rendered: int) -> ClassSet:
    keys = {image.file: image.key for image in images}
    draft.write(out, list(keys), ClassSetRecord(prompt=prompt, images=images, keys=keys), rendered)
    return ClassSet(out)


def _file(index: int) -> str:
    return f"{index:04d}.png"


def _require_enough(folder: Path, usable: int, count: int, why: str = "") -> None:
    if usable < count:
        raise InputError(
            f"class_images.folder {folder} holds {usable} pictures that can be used and count is {count}{why}; "
            "add pictures or lower class_images.count"
        )


def _write_picture(reader: BroughtReader, source: Listed, target: Path, key: str, size: Size) -> bool:
    """Write the largest part of a picture's middle that has the shape of `size`; False when it cannot be read."""
    from PIL import Image, ImageOps

    pixels = reader.read(source)
    if pixels is None:
        return False
    reader.note(source, enlargement(pixels, size))
    fitted = np.asarray(ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.LANCZOS))
    write_changed(target, encode_png(fitted, {"key": key, "source": source.name}))
    return True
