"""Takes in a LoRA that was made elsewhere: a file in, `adapters/NAME/` out, as if it had been trained here."""

from __future__ import annotations

import time
from pathlib import Path

from limner.adapters import LowRankUpdates, WholeWeights
from limner.adapters.exchange.imported import (
    hash_of_imported,
    one_rank_and_alpha,
    read_imported,
    save_imported,
    save_merged,
)
from limner.artifacts import (
    AdapterFolder,
    Manifest,
    Specification,
    file_hashes,
    is_current,
    machine_record,
    require_folder,
    whole_folder,
    write_manifest,
)
from limner.base import BaseLocation
from limner.config import AdapterFile
from limner.methods import method_making
from limner.records import AdapterRecord

STAGE, VERSION = "adopt", 1


def adopt(settings: AdapterFile, source: Path, out: Path, base: BaseLocation, vae: Path | None = None) -> AdapterFolder:
    """Write the LoRA at `source` as the adapter `out`, merged into the base where the settings say so.

    Its content is part of the key, and so is the base's where it is merged. Raises AdapterError for what is no LoRA of
    SD 1.5, does not fit the base, or can only be merged and is not to be.
    """
    specification = specify_adopt(settings, source, base)
    if not is_current(out, specification.key):
        require_folder(out)
        began = time.perf_counter()
        lora = read_imported(source)
        rank, alpha = one_rank_and_alpha(lora.low_rank)
        record = _record(settings, source, rank, None if alpha is None else alpha * settings.strength)
        with whole_folder(out) as folder:
            if settings.merged:
                save_merged(folder, lora, base, vae, settings.strength)
            else:
                save_imported(folder, lora, settings.strength)
            made = machine_record(seconds=time.perf_counter() - began)
            write_manifest(folder, Manifest.of(specification, record, file_hashes(folder), made))
    return AdapterFolder(out)


def specify_adopt(settings: AdapterFile, source: Path, base: BaseLocation) -> Specification:
    """What an adapter made elsewhere follows from, once it lies in the run."""
    read = {"strength": settings.strength, "merged": settings.merged}
    inputs = {"file": hash_of_imported(source), "base": base.content_hash if settings.merged else None}
    return Specification(STAGE, VERSION, read, inputs)


def _record(settings: AdapterFile, source: Path, rank: int | None, alpha: float | None) -> AdapterRecord:
    scale = alpha / rank if rank and alpha is not None else None
    return AdapterRecord(
        label=settings.name,
        method=method_making(WholeWeights if settings.merged else LowRankUpdates).name,
        method_record={} if settings.merged else {"rank": rank, "alpha": alpha, "scale": scale},
        training_seed=None,
        steps=None,
        start_from=None,
        made_elsewhere=source.name,
    )
