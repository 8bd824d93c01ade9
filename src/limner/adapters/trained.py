"""Reads a trained adapter together with the result that it started from."""

from __future__ import annotations

from dataclasses import replace

from limner.adapters.adapter import Adapter
from limner.adapters.formats import load_adapter
from limner.artifacts import AdapterFolder
from limner.errors import AdapterError


def load_trained(folder: AdapterFolder) -> Adapter:
    """The whole of what a variant adds to its base.

    A LoRA's folder holds its own updates only and names the result it started from, which lies beside it: that
    one's full weights, and its updates of modules that this one did not train, apply as well. Raises AdapterError
    when the start is gone or is no longer what it was.
    """
    own = load_adapter(folder.folder, folder.label, folder.content_hash)
    start = folder.record.get("start_from")
    if start is None or own.full:  # full weights replace all
        return own
    beside = AdapterFolder(folder.folder.parent / start["label"])
    if not beside.folder.is_dir():
        raise AdapterError(
            f'{folder.folder} starts from "{start["label"]}", and there is no {beside.folder}; train that variant again'
        )
    if beside.content_hash != start["content_hash"]:
        raise AdapterError(
            f'{folder.folder} was trained on another result of "{start["label"]}" than {beside.folder} holds now; '
            f'train "{folder.label}" again'
        )
    earlier = load_trained(beside)
    low_rank = {**earlier.low_rank, **own.low_rank}
    return replace(own, full=earlier.full, low_rank=low_rank, full_hash=earlier.full_hash)
