"""Reads a trained adapter together with the result that it started from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from limner.adapters.adapter import Adapter, joined_hashes, load_adapter
from limner.adapters.formats import MODULES
from limner.adapters.low_rank import LowRankUpdate
from limner.adapters.parts import Part, types_stored
from limner.adapters.whole_weights import weights_file
from limner.artifacts import MANIFEST, AdapterFolder
from limner.errors import AdapterError


def load_trained(folder: AdapterFolder, *, is_stackable: bool | None = None) -> Adapter:
    """The whole of what a variant adds to its base.

    An adapter's folder holds its own parts only and names the result it started from, which lies beside it: that
    one's parts act as well, where its own do not replace them. `is_stackable` reads only the parts that can, or that
    cannot, be stacked. Raises AdapterError when the start is gone or is no longer what it was.
    """
    known_hash = joined_hashes([content_hash for _, content_hash in fixed_parts(folder)])
    adapter = load_adapter(folder.folder, folder.label, known_hash, is_stackable=is_stackable)
    start = _start_of(folder)
    if start is None:
        return adapter
    earlier = load_trained(start, is_stackable=is_stackable).parts
    joined = [part.on(earlier[kind]) if kind in earlier else part for kind, part in adapter.parts.items()]
    parts = [*joined, *(part for kind, part in earlier.items() if kind not in adapter.parts)]
    return Adapter.of(adapter.label, *parts, known_hash=known_hash)


def kinds_of(folder: AdapterFolder) -> list[type[Part]]:
    """Types of the parts that a variant's own folder holds, from its manifest."""
    return types_stored(folder.manifest.files)


def kinds_in_all(folder: AdapterFolder) -> set[str]:
    """Kinds of all parts that `load_trained` would give."""
    return {part.kind for each in _chain(folder) for part in kinds_of(each)}


def fixed_parts(folder: AdapterFolder) -> list[tuple[str, str]]:
    """Label and content hash of each result whose parts act and cannot be stacked, the variant's own first.

    Nothing but manifests is read; a start that is gone is named as the record has it, and said when it is loaded.
    """
    named = [
        (each.label, each.content_hash) for each in _chain(folder) if any(not p.is_stackable for p in kinds_of(each))
    ]
    *_, last = _chain(folder)
    start = None if _is_whole(last) else last.record.start_from
    return [*named, (start.label, start.content_hash)] if start else named


def full_weights_of(folder: AdapterFolder) -> dict[str, Path]:
    """Files of the full weights that a variant has, or that it was trained on top of, by module; none for a LoRA alone.

    Raises AdapterError as `load_trained`.
    """
    files = {module: folder.folder / weights_file(module) for module in MODULES}
    stored = {module: file for module, file in files.items() if file.is_file()}
    start = None if stored else _start_of(folder)
    return stored if start is None else full_weights_of(start)


def low_rank_of(folder: AdapterFolder) -> dict[str, dict[str, LowRankUpdate]]:
    """The low-rank updates that `load_trained` would give, without reading any full weights."""
    low_rank = load_trained(folder, is_stackable=True).low_rank
    return {module: dict(updates) for module, updates in low_rank.items()}


def _is_whole(folder: AdapterFolder) -> bool:
    """Whether it holds all that its start did."""
    return any(part.replaces_all for part in kinds_of(folder))


def _chain(folder: AdapterFolder) -> Iterator[AdapterFolder]:
    """A result, the one that it started from and so on, as far as their parts act and they lie beside it."""
    yield folder
    start = None if _is_whole(folder) else folder.record.start_from
    if start and (folder.folder.parent / start.label / MANIFEST).is_file():
        yield from _chain(AdapterFolder(folder.folder.parent / start.label))


def _start_of(folder: AdapterFolder) -> AdapterFolder | None:
    """The result that a variant started from, as it was then; None where its own parts hold all of it."""
    start = folder.record.start_from
    if start is None or _is_whole(folder):
        return None
    start_folder = AdapterFolder(folder.folder.parent / start.label)
    if not start_folder.folder.is_dir():
        raise AdapterError(
            f'{folder.folder} starts from "{start.label}", but {start_folder.folder} does not exist; '
            "train that variant again"
        )
    if start_folder.content_hash != start.content_hash:
        raise AdapterError(
            f'{folder.folder} was trained on another result of "{start.label}" than {start_folder.folder} holds now; '
            f'train "{folder.label}" again'
        )
    return start_folder
