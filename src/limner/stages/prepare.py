"""prepare: any folder of pictures to square crops around the subject, upright, in sRGB, without metadata."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.artifacts import (
    MANIFEST,
    Manifest,
    PhotoSet,
    file_hashes,
    hash_file,
    is_current,
    machine_record,
    read_manifest,
    require_folder,
    stage_key,
    whole_folder,
    write_manifest,
    write_whole,
)
from limner.config import Prepare
from limner.embeddings.head_finder import finder_identity
from limner.errors import DiskError, PhotoError
from limner.photos import (
    BY_HAND,
    MOST_BYTES,
    CropPlan,
    Focus,
    Listing,
    Refusal,
    RefusedPhotoError,
    SheetEntry,
    Twins,
    Wish,
    choose_focuses,
    choose_held_out,
    contact_sheet,
    cut,
    find_focus,
    list_photos,
    plan_crop,
    read_photo,
    read_wishes,
    see,
    used_entry,
)
from limner.progress import SILENT, Progress

STAGE, VERSION = "prepare", 2
CONTACT_SHEET = "contact.jpg"
HELD_OUT = "held out of training"


def prepare(
    photos: Path, out: Path, settings: Prepare, *, strict: bool = False, progress: Progress = SILENT
) -> PhotoSet:
    """Make the photo set `out` from the folder `photos`, whole or not at all; nothing when it is current.

    `out` holds the crops NNNN.png (size_px, size_px), contact.jpg and manifest.json. Photos that cannot be used
    are left out and listed. Raises PhotoError when the folder is absent, no photo in it can be used, or one
    cannot and `strict` asks for all.
    """
    listing = list_photos(photos)
    wishes = read_wishes(photos, [path.name for path in listing.photos])
    inputs = _inputs(listing, wishes)
    key = stage_key(STAGE, VERSION, settings.model_dump(mode="json"), inputs)
    if is_current(out, key):
        done = PhotoSet(out)
        _refuse_strictly([Refusal(**refusal) for refusal in done.refused], photos, strict)
        return done
    _refuse_to_replace(out, photos)
    began = time.perf_counter()
    with whole_folder(out) as folder:
        records, refused, entries = _make_crops(listing, folder, settings, wishes, progress)
        if not records:
            raise PhotoError(f"no photo in {photos} can be used: {_listed(refused)}")
        _refuse_strictly(refused, photos, strict)
        entries += [SheetEntry(f"{r.source}: {r.reason}", refused=True) for r in refused]
        write_whole(folder / CONTACT_SHEET, contact_sheet(entries))
        content = {"photos": records, "refused": [asdict(refusal) for refusal in refused]}
        read, files = settings.model_dump(mode="json"), file_hashes(folder)
        made = machine_record() | {"seconds": time.perf_counter() - began}
        write_manifest(folder, Manifest(STAGE, VERSION, key, read, inputs, files, made, content))
    return PhotoSet(out)


def _refuse_to_replace(out: Path, photos: Path) -> None:
    """The old photo set is replaced whole, so nothing else may lie there, least of all the photos themselves."""
    require_folder(out)
    if photos.resolve().is_relative_to(out.resolve()):
        raise DiskError(f"{out} holds the photos themselves and would be replaced; choose another --out")
    if not out.is_dir():
        return
    manifest = read_manifest(out)
    ours = {MANIFEST, *(manifest.files if manifest and manifest.stage == STAGE else ())}
    names = (path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if path.is_file())
    foreign = [name for name in names if name not in ours and not name.startswith(".")]
    if foreign:
        raise DiskError(f"{out} holds {foreign[0]}, which would be lost; choose another --out or move it away")


def _inputs(listing: Listing, wishes: dict[str, Wish]) -> dict[str, Any]:
    return {
        "photos": {path.name: _content_hash(path) for path in listing.photos},
        "not_read": [refusal.source for refusal in listing.refused],
        "head_finder": finder_identity(),
        "focus": {name: asdict(wish) for name, wish in sorted(wishes.items())},
    }


def _content_hash(path: Path) -> str:
    with contextlib.suppress(OSError):
        length = path.stat().st_size
        return hash_file(path) if length <= MOST_BYTES else f"{length} bytes"
    return "not readable"


def _find_focuses(listing: Listing, settings: Prepare, progress: Progress) -> dict[str, Focus]:
    """Where to look in every photo that can be read; what recurs in them is known only after all were seen."""
    if settings.focus == "center" and settings.zoom == "picture":
        return {}  # there is nothing to look for
    sights = {}
    with progress.task("find the subject", len(listing.photos)) as advance:
        for path in listing.photos:
            with contextlib.suppress(RefusedPhotoError):  # refused, with its reason, when it is cut
                pixels = read_photo(path, settings.size_px).pixels
                sights[path.name] = see(pixels, settings.focus, zoom_to_head=settings.zoom == "head")
            advance(1)
    return dict(zip(sights, choose_focuses([*sights.values()], settings.focus), strict=True))


def _make_crops(
    listing: Listing, folder: Path, settings: Prepare, wishes: dict[str, Wish], progress: Progress
) -> tuple[list[dict[str, Any]], list[Refusal], list[SheetEntry]]:
    records: list[dict[str, Any]] = []
    refused = list(listing.refused)
    entries: list[SheetEntry] = []
    twins = Twins()
    focuses = _find_focuses(listing, settings, progress)
    with progress.task("prepare photos", len(listing.photos)) as advance:
        for path in listing.photos:
            try:
                record, crop, entry = _crop_of(path, settings, focuses.get(path.name), wishes.get(path.name), twins)
            except RefusedPhotoError as error:
                refused.append(Refusal(path.name, str(error)))
            else:
                record["file"] = f"{len(records):04d}.png"
                write_whole(folder / record["file"], _png(crop))
                records.append(record)
                entries.append(entry)
            advance(1)
    _hold_out(folder, records, entries, twins, settings)
    refused.sort(key=lambda refusal: refusal.source)
    for refusal in refused:
        progress.notice(f"left out {refusal.source}: {refusal.reason}")
    return records, refused, entries


def _hold_out(
    folder: Path, records: list[dict[str, Any]], entries: list[SheetEntry], twins: Twins, settings: Prepare
) -> None:
    """Mark in records and entries which photos no training sees."""
    hashes = [hash_file(folder / record["file"]) for record in records]
    repeated = [record["source"] in twins.names for record in records]
    for place in choose_held_out(hashes, repeated, settings.held_out):
        records[place]["held_out"] = True
        records[place]["notes"] += [HELD_OUT]
        entries[place] = replace(entries[place], caption=f"{entries[place].caption}; {HELD_OUT}")


def _crop_of(
    path: Path, settings: Prepare, focus: Focus | None, wish: Wish | None, twins: Twins
) -> tuple[dict[str, Any], np.ndarray, SheetEntry]:
    photo = read_photo(path, settings.size_px)
    height, width = photo.pixels.shape[:2]
    if focus is None:
        focus = find_focus(photo.pixels, settings.focus, zoom_to_head=settings.zoom == "head")
    if wish is not None:
        focus = replace(focus, point=wish.point((width, height)), how=BY_HAND)
    head = focus.head.box if focus.head else None
    side_share = wish.side if wish else None
    plan = plan_crop((width, height), focus.point, head, settings.zoom, settings.size_px, side_share)
    crop = cut(photo.pixels, plan, settings.size_px)
    notes = [*photo.notes, *plan.notes, *twins.notes(path.name, crop)]
    record = _record(path.name, (width, height), focus, plan) | {"notes": notes}
    caption = "; ".join([f"{path.name}: {focus.how}", *notes])
    return record, crop, used_entry(caption, photo.pixels, plan, crop)


def _record(source: str, size: tuple[int, int], focus: Focus, plan: CropPlan) -> dict[str, Any]:
    """What the manifest says of a crop: all that is needed to show it on its photo and to move it."""
    box = {"x0": plan.x0, "y0": plan.y0, "x1": plan.x1, "y1": plan.y1}
    found = focus.head
    head = found and {"box": [round(edge) for edge in found.box], "kind": found.kind, "score": round(found.score, 3)}
    return {"source": source, "file": "", "size": list(size), "crop": box, "focus": focus.how, "head": head}


def _png(crop: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "PNG")
    return buffer.getvalue()


def _listed(refused: list[Refusal]) -> str:
    return "; ".join(f"{refusal.source}: {refusal.reason}" for refusal in refused)


def _refuse_strictly(refused: list[Refusal], photos: Path, strict: bool) -> None:
    if strict and refused:
        raise PhotoError(f"with --strict every photo in {photos} must be usable; mend or remove {_listed(refused)}")
