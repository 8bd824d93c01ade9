"""Reads a trained adapter together with the result that it started from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from limner.adapters.adapter import MODULES, Adapter
from limner.adapters.formats import LORA_FILE, load_adapter, load_low_rank
from limner.adapters.low_rank import LowRankUpdate
from limner.artifacts import AdapterFolder
from limner.config import VariantRun
from limner.errors import AdapterError, InputError


def load_trained(folder: AdapterFolder) -> Adapter:
    """The whole of what a variant adds to its base.

    A LoRA's folder holds its own updates only and names the result it started from, which lies beside it: that
    one's full weights, and its updates of modules that this one did not train, apply as well. Raises AdapterError
    when the start is gone or is no longer what it was.
    """
    own = load_adapter(folder.folder, folder.label, folder.content_hash)
    beside = None if own.full else _start_of(folder)  # full weights replace all
    if beside is None:
        return own
    earlier = load_trained(beside)
    low_rank = {**earlier.low_rank, **own.low_rank}
    return replace(own, full=earlier.full, low_rank=low_rank, full_hash=earlier.full_hash)


def full_weights_of(folder: AdapterFolder) -> dict[str, Path]:
    """Files of the full weights that a variant has, or that it was trained on top of, by module; none for a LoRA alone.

    Raises AdapterError as `load_trained`.
    """
    own = {module: folder.folder / f"{module}.safetensors" for module in MODULES}
    found = {module: file for module, file in own.items() if file.is_file()}
    beside = None if found else _start_of(folder)
    return found if beside is None else full_weights_of(beside)


def low_rank_of(folder: AdapterFolder) -> dict[str, dict[str, LowRankUpdate]]:
    """The low-rank updates that `load_trained` would give, without reading any full weights."""
    file, is_full = (
        folder.folder / LORA_FILE,
        any((folder.folder / f"{name}.safetensors").is_file() for name in MODULES),
    )
    own = load_low_rank(file) if file.is_file() else {}
    beside = None if is_full else _start_of(folder)
    return own if beside is None else {**low_rank_of(beside), **own}


def require_start(run: VariantRun, start: AdapterFolder | None, out: Path) -> None:
    """Raise InputError unless the variant, whose adapter goes to `out`, can be trained on from `start`."""
    if start is None:
        return
    method, of_method = start.record.method, start.record.method_record
    rank, alpha = of_method.get("rank"), of_method.get("alpha")
    fault = ""
    if start.folder.resolve().parent != out.resolve().parent:
        fault = f"lies at {start.folder}, not beside {out}"
    elif run.variant.method == "full" and method == "lora":
        fault = (
            'is a LoRA, and a full variant can only start from whole weights; use method = "lora", or give the LoRA in '
            "[[adapters]] with merged = true"
        )
    elif run.variant.method == "lora" and method == "lora":
        fault = continuation_fault(run, rank, alpha)
    if fault:
        raise InputError(f'{run.label}: start_from "{start.folder.name}" {fault}')


def continuation_fault(run: VariantRun, rank: int | None, alpha: float | None) -> str:
    """Why a LoRA variant cannot go on from a LoRA of this rank and alpha (None: its updates differ in it), or ""."""
    if run.rank == rank and run.alpha == alpha:
        return ""
    ranks = f"rank {rank}" if rank else "several ranks"
    alphas = "several alphas" if alpha is None else f"alpha {alpha:g}"
    return (
        f"has {ranks} and {alphas}, this variant {run.rank} and {run.alpha:g}; a LoRA is trained further at its own "
        "(limner lora resize makes another rank of it). To train one on top of it, put it into [[adapters]] with "
        "merged = true"
    )


def _start_of(folder: AdapterFolder) -> AdapterFolder | None:
    """The result that a variant started from, as it was then."""
    start = folder.record.start_from
    if start is None:
        return None
    beside = AdapterFolder(folder.folder.parent / start.label)
    if not beside.folder.is_dir():
        raise AdapterError(
            f'{folder.folder} starts from "{start.label}", and there is no {beside.folder}; train that variant again'
        )
    if beside.content_hash != start.content_hash:
        raise AdapterError(
            f'{folder.folder} was trained on another result of "{start.label}" than {beside.folder} holds now; '
            f'train "{folder.label}" again'
        )
    return beside
