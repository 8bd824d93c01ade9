"""One type for everything training makes: named parts, such as whole weights and low-rank updates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from limner.adapters.formats import LORA_FILE
from limner.adapters.low_rank import LowRankUpdate
from limner.adapters.low_rank_updates import LowRankUpdates
from limner.adapters.parts import Part, part_types, types_stored
from limner.adapters.whole_weights import WholeWeights
from limner.artifacts import hash_bytes
from limner.errors import AdapterError


@dataclass(frozen=True)
class Adapter:
    """What a variant adds to its base: parts by their kind, in the order in which they are attached.

    The untouched base has none, a DreamBooth result whole weights, a LoRA low-rank updates, a LoRA on top of a
    DreamBooth result both. `known_hash` names the parts that cannot be stacked, where it is known without reading them.
    """

    label: str
    parts: Mapping[str, Part] = field(default_factory=dict)
    known_hash: str = ""

    @classmethod
    def of(cls, label: str, *parts: Part, known_hash: str = "") -> Adapter:
        """One of these parts."""
        order = [each.kind for each in part_types()]
        return cls(
            label, {part.kind: part for part in sorted(parts, key=lambda part: order.index(part.kind))}, known_hash
        )

    @property
    def full(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Whole state dicts by module; empty without."""
        part = self.parts.get(WholeWeights.kind)
        return part.state if isinstance(part, WholeWeights) else {}

    @property
    def low_rank(self) -> Mapping[str, Mapping[str, LowRankUpdate]]:
        """Low-rank updates by module and layer; empty without."""
        part = self.parts.get(LowRankUpdates.kind)
        return part.updates if isinstance(part, LowRankUpdates) else {}

    @property
    def fixed(self) -> Adapter:
        """It without what can be stacked: columns that share this are rendered together."""
        return Adapter(
            self.label, {kind: part for kind, part in self.parts.items() if not part.is_stackable}, self.known_hash
        )

    @property
    def stackable(self) -> dict[str, Part]:
        """The parts of which those of several adapters can act in one pass."""
        return {kind: part for kind, part in self.parts.items() if part.is_stackable}

    @property
    def fixed_hash(self) -> str:
        """Names the parts that cannot be stacked, "" without; where it is not known it takes seconds for SD 1.5."""
        fixed = self.fixed.parts
        if not fixed:
            return ""
        return self.known_hash or joined_hashes([part.content_hash() for part in fixed.values()])


def joined_hashes(hashes: Sequence[str]) -> str:
    """One hash for several that differ; "" for none."""
    distinct = list(dict.fromkeys(hashes))
    return hash_bytes("+".join(distinct).encode()) if len(distinct) > 1 else "".join(distinct)


def untouched(label: str = "base") -> Adapter:
    """The base as it is, as an adapter that changes nothing."""
    return Adapter(label)


@contextlib.contextmanager
def attached(modules: Mapping[str, nn.Module], adapter: Adapter, strength: float = 1.0) -> Iterator[None]:
    """Attach `adapter` to a base's modules for the time of the block; afterwards they are bit for bit what they were.

    `modules` is `Base.modules()`. `strength` multiplies the parts that are stackable (1 is as trained).
    """
    with contextlib.ExitStack() as parts:
        for part in adapter.parts.values():
            parts.enter_context(part.attached(modules, strength))
        yield


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter's files into an existing folder (a temporary one: see `artifacts.whole_folder`)."""
    for part in adapter.parts.values():
        part.save(folder)


def load_adapter(folder: Path, label: str = "", content_hash: str = "", *, is_stackable: bool | None = None) -> Adapter:
    """Read an adapter's folder. Raises AdapterError for damaged files and for keys that are not understood.

    `content_hash`, where it is known, names its parts; else they are hashed when that is asked for. `is_stackable`
    reads only the parts that can, or that cannot, be stacked.
    """
    stored = types_stored({path.name for path in folder.iterdir()} if folder.is_dir() else ())
    if not stored:
        raise AdapterError(f"{folder} holds no adapter: neither {LORA_FILE} nor unet.safetensors is there")
    wanted = [each for each in stored if is_stackable in (None, each.is_stackable)]
    return Adapter(label or folder.name, {each.kind: each.load(folder) for each in wanted}, content_hash)
