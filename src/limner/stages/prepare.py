"""prepare: any folder of pictures to crops around the subject, upright, in sRGB, without metadata."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limner.artifacts import (
    Manifest,
    PhotoSet,
    Size,
    Specification,
    file_hashes,
    hash_file,
    is_current,
    machine_record,
    whole_folder,
    write_manifest,
    write_whole,
)
from limner.base.devices import one_thread_each
from limner.config import Prepare
from limner.decoding import Decoders, HeldPhoto, ReadingRules, RefusedPhotoError, heif_is_readable
from limner.embeddings import EfficientNetLite0
from limner.embeddings.head_finder import finder_identity
from limner.errors import PhotoError
from limner.photos import (
    CHECKS_VERSION,
    LEAST_PHOTOS,
    Candidate,
    CropPlan,
    CropRequest,
    Focus,
    Listed,
    Listing,
    ManualCrop,
    Refusal,
    SeenPhoto,
    SheetEntry,
    Twins,
    bucket_sizes,
    checked_table,
    choose_heads,
    choose_held_out,
    contact_sheet,
    dissimilar_photos,
    judge,
    list_photos,
    look_and_cut,
    read_manual_crops,
    without_head,
)
from limner.progress import SILENT, Progress
from limner.records import CropBox, HeadRecord, PhotoRecord, PhotoSetRecord, RefusedPhoto, UnusedFile
from limner.stages.photo_folders import content_hash, refuse_to_replace, require_unchanged, state_of

STAGE, VERSION = "prepare", 3
CONTACT_SHEET, CANDIDATES = "contact.jpg", "candidates"
HELD_OUT = "held out of training"
KEPT_BYTES, KEPT_PIXELS = 400_000_000, 200_000_000  # of a photo that is to be kept whatever its size


def prepare(
    photos: Path, out: Path, settings: Prepare, *, strict: bool = False, progress: Progress = SILENT
) -> PhotoSet:
    """Make the photo set `out` from the folder `photos`, whole or not at all; nothing when it is current.

    `out` holds the crops NNNN.png, squares or in buckets, contact.jpg and manifest.json. Photos that cannot be used
    are left out and listed. Raises PhotoError when the folder is absent, no photo in it can be used, or one
    cannot and `strict` asks for all.
    """
    listing, manual_crops = _listed_photos(photos, settings)
    before = state_of(listing.photos)
    specification = specify_prepare(listing, settings, manual_crops)
    if is_current(out, specification.key):
        done = PhotoSet(out)
        _refuse_strictly([Refusal(photo.source, photo.reason) for photo in done.refused], photos, strict)
        return done
    refuse_to_replace(out, photos, progress)
    began = time.perf_counter()
    with whole_folder(out) as folder:
        draft = _make_crops(listing, folder, settings, manual_crops, progress)
        require_unchanged(photos, before)
        if not draft.records:
            raise PhotoError(f"no photo in {photos} can be used: {_listed(draft.refused)}")
        _refuse_strictly(draft.refused, photos, strict)
        _compare(draft, settings)
        judgement = judge([candidate.look for candidate in draft.chosen])
        table = checked_table(draft.records, draft.refused, listing.unused)
        for sentence in filter(None, [table, *judgement]):
            progress.notice(sentence)
        _hold_out(draft, folder, settings)
        write_whole(folder / CONTACT_SHEET, _sheet(draft))
        refused = [RefusedPhoto(source=refusal.source, reason=refusal.reason) for refusal in draft.refused]
        unused = [UnusedFile(source=other.source, reason=other.reason) for other in listing.unused]
        record = PhotoSetRecord(photos=draft.records, refused=refused, unused=unused, judgement=judgement)
        seconds = machine_record(seconds=time.perf_counter() - began)
        write_manifest(folder, Manifest.of(specification, record, file_hashes(folder), seconds))
    return PhotoSet(out)


def specify_photos(photos: Path, settings: Prepare) -> Specification:
    """What the photo set of a folder follows from. Raises PhotoError as `prepare` does before it reads a picture."""
    listing, manual_crops = _listed_photos(photos, settings)
    return specify_prepare(listing, settings, manual_crops)


def count_photos(photos: Path) -> int:
    """How many photos of a folder would be looked at."""
    return len(list_photos(photos).photos)


def _listed_photos(photos: Path, settings: Prepare) -> tuple[Listing, dict[str, ManualCrop]]:
    listing = list_photos(photos)
    _require_kept(listing, settings, photos)
    return listing, read_manual_crops(photos, [photo.name for photo in listing.photos])


def specify_prepare(listing: Listing, settings: Prepare, manual_crops: dict[str, ManualCrop]) -> Specification:
    """What a photo set follows from; every photo is read once, for its hash."""
    return Specification(STAGE, VERSION, _read(settings), _inputs(listing, settings, manual_crops))


def _read(settings: Prepare) -> dict[str, Any]:
    """The settings that the key names: of photo sets of squares, those that there were before there were buckets."""
    return settings.model_dump(mode="json", exclude={"shape"} if settings.shape == "square" else None)


def _require_kept(listing: Listing, settings: Prepare, photos: Path) -> None:
    names = {photo.name for photo in listing.photos}
    if absent := [name for name in settings.keep if name not in names]:
        raise PhotoError(f"{photos} holds no photo {absent[0]} to keep; give the name of its file")


def _inputs(listing: Listing, settings: Prepare, manual_crops: dict[str, ManualCrop]) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "photos": {
            photo.name: content_hash(photo.path, _rules(photo, settings).most_bytes) for photo in listing.photos
        },
        "not_read": [refusal.source for refusal in listing.refused],
        "head_finder": finder_identity(),
        "focus": {name: asdict(crop) for name, crop in sorted(manual_crops.items())},
        "checks": CHECKS_VERSION,
        "heif": heif_is_readable(),
    }
    captions = {photo.name: photo.caption for photo in listing.photos if photo.caption}
    repeats = {photo.name: photo.repeats for photo in listing.photos if photo.repeats != 1}
    unused = [[other.source, other.reason] for other in listing.unused]
    more = {"captions": captions, "repeats": repeats, "unused": unused}
    return inputs | {name: value for name, value in more.items() if value}


def _rules(photo: Listed, settings: Prepare, crop: ManualCrop | None = None) -> ReadingRules:
    """What may be decoded; a crop of less than the largest may need every pixel there is."""
    whole = settings.zoom == "head" or (crop is not None and crop.side is not None)
    if photo.name in settings.keep:
        return ReadingRules(settings.size_px, KEPT_BYTES, KEPT_PIXELS, least_side_px=1, full_scale=whole)
    return ReadingRules(settings.size_px, most_pixels=round(settings.most_megapixels * 1e6), full_scale=whole)


@dataclass
class PhotoSetDraft:
    """What came of the photos so far, each list in their order."""

    refused: list[Refusal]
    records: list[PhotoRecord] = field(default_factory=list)
    chosen: list[Candidate] = field(default_factory=list)
    twins: Twins = field(default_factory=Twins)


def _make_crops(
    listing: Listing, folder: Path, settings: Prepare, manual_crops: dict[str, ManualCrop], progress: Progress
) -> PhotoSetDraft:
    draft = PhotoSetDraft(list(listing.refused))
    seen = _see_all(listing, folder / CANDIDATES, settings, manual_crops, progress, draft)
    chosen = choose_heads([photo.sight for _, photo in seen])
    for (listed, photo), index in zip(seen, chosen, strict=True):
        _keep(listed, photo, photo.candidates[index], folder, draft, in_buckets=settings.shape == "buckets")
    shutil.rmtree(folder / CANDIDATES)
    draft.refused.sort(key=lambda refusal: refusal.source)
    return draft


def _see_all(
    listing: Listing,
    folder: Path,
    settings: Prepare,
    manual_crops: dict[str, ManualCrop],
    progress: Progress,
    draft: PhotoSetDraft,
) -> list[tuple[Listed, SeenPhoto]]:
    """Every photo decoded, looked at and cut, several at a time; what cannot be read is added to what `draft` refuses.

    Each thread has one of PyTorch's: more of them for one small picture wait for each other longer than they work.
    """
    folder.mkdir()
    compared = settings.focus != "center" and len(listing.photos) >= LEAST_PHOTOS
    embedder = EfficientNetLite0() if compared else None
    request = CropRequest(folder, _sizes(settings), settings.focus, settings.zoom, embedder)
    wanted = [(photo.path, _rules(photo, settings, manual_crops.get(photo.name))) for photo in listing.photos]

    def work(index: int, photo: HeldPhoto) -> SeenPhoto:
        return look_and_cut(photo, manual_crops.get(listing.photos[index].name), request, f"{index:04d}")

    seen = []
    with (
        one_thread_each(),
        progress.task("prepare", len(wanted), unit="photos") as advance,
        Decoders.for_photos(len(wanted)) as decoders,
    ):
        for listed, outcome in zip(listing.photos, decoders.each(wanted, work), strict=True):
            if isinstance(outcome, RefusedPhotoError):
                draft.refused.append(Refusal(listed.name, str(outcome)))
            else:
                seen.append((listed, outcome))
            advance(1)
    return seen


def _sizes(settings: Prepare) -> list[Size]:
    """What crops may measure."""
    if settings.shape == "buckets":
        return bucket_sizes(settings.size_px)
    return [(settings.size_px, settings.size_px)]


def _keep(
    listed: Listed, photo: SeenPhoto, chosen: Candidate, folder: Path, draft: PhotoSetDraft, *, in_buckets: bool
) -> None:
    """Take the chosen crop, and record it."""
    warnings = [*chosen.plan.notes, *chosen.crop.flaws, *draft.twins.notes(listed.name, chosen.crop.small)]
    record = PhotoRecord(
        source=listed.name,
        file=f"{len(draft.records):04d}.png",
        size=photo.source_size,
        crop=_in_source(chosen.plan, photo),
        focus=chosen.focus.how,
        head=_head_in_source(chosen.focus, photo),
        notes=[*photo.notes, *listed.notes, *warnings],
        warnings=warnings,
        crop_size=photo.crop_size if in_buckets else None,
        caption=listed.caption,
        repeats=listed.repeats,
    )
    chosen.crop.file.replace(folder / record.file)
    draft.records.append(record)
    draft.chosen.append(chosen)


def _head_in_source(focus: Focus, photo: SeenPhoto) -> HeadRecord | None:
    """The head that the crop was placed by, its box in px of the upright source."""
    if focus.head is None:
        return None
    scale = _scale(photo)
    x0, y0, x1, y1 = (round(edge * scale) for edge in focus.head.box)
    return HeadRecord(box=(x0, y0, x1, y1), kind=focus.head.kind, score=round(focus.head.score, 3))


def _in_source(plan: CropPlan, photo: SeenPhoto) -> CropBox:
    """The crop's box in px of the upright source, which may be larger than what was read."""
    scale = _scale(photo)
    width, height = (min(round(s * scale), most) for s, most in zip(plan.size, photo.source_size, strict=True))
    x0 = min(round(plan.x0 * scale), photo.source_size[0] - width)
    y0 = min(round(plan.y0 * scale), photo.source_size[1] - height)
    return CropBox(x0=x0, y0=y0, x1=x0 + width, y1=y0 + height)


def _scale(photo: SeenPhoto) -> float:
    """How much larger the upright source is than what was read of it."""
    return min(photo.source_size) / min(photo.size)


def _compare(draft: PhotoSetDraft, settings: Prepare) -> None:
    """Warn of photos that stand out from the others: no head, or another subject."""
    if settings.focus == "center" or len(draft.records) < LEAST_PHOTOS:
        return
    for index in without_head([candidate.look.framing != "" for candidate in draft.chosen]):
        _warn(draft, index, "no head was found, as in most others")
    embeddings = [one.crop.embedding for one in draft.chosen if one.crop.embedding is not None]
    for index in dissimilar_photos(np.stack(embeddings)):
        _warn(draft, index, "unlike the others: perhaps another subject, or the subject is hardly visible")


def _warn(draft: PhotoSetDraft, index: int, warning: str) -> None:
    photo = draft.records[index]
    notes = {"notes": [*photo.notes, warning], "warnings": [*photo.warnings, warning]}
    draft.records[index] = photo.model_copy(update=notes)


def _hold_out(draft: PhotoSetDraft, folder: Path, settings: Prepare) -> None:
    """Mark in the records which photos no training sees."""
    hashes = [hash_file(folder / photo.file) for photo in draft.records]
    repeated = [photo.source in draft.twins.names for photo in draft.records]
    for index in choose_held_out(hashes, repeated, settings.held_out):
        photo = draft.records[index]
        draft.records[index] = photo.model_copy(update={"held_out": True, "notes": [*photo.notes, HELD_OUT]})


def _sheet(draft: PhotoSetDraft) -> bytes:
    """The contact sheet, with all that is noted of each photo under it."""
    entries = [
        replace(one.entry, caption="; ".join([f"{photo.source}: {photo.focus}", *photo.notes]))
        for one, photo in zip(draft.chosen, draft.records, strict=True)
    ]
    return contact_sheet([*entries, *(SheetEntry(f"{r.source}: {r.reason}", refused=True) for r in draft.refused)])


def _listed(refused: list[Refusal]) -> str:
    return "; ".join(f"{refusal.source}: {refusal.reason}" for refusal in refused)


def _refuse_strictly(refused: list[Refusal], photos: Path, strict: bool) -> None:
    if strict and refused:
        raise PhotoError(f"with --strict every photo in {photos} must be usable; repair or remove {_listed(refused)}")
