"""A complete base on the disk, opened for streaming, in either layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from limner.base.inspect import require_sd15
from limner.base.single_file.configuration import Configuration, configuration_of_file, configuration_of_folder
from limner.base.single_file.names import TEXT_MODEL, WEIGHT_PARTS
from limner.base.single_file.parts import ModelParts, parts_of_file, parts_of_folder, parts_of_vae
from limner.base.single_file.writing import TEXT_KEYS
from limner.base.weights.streaming import TensorFile
from limner.errors import BaseError

NOT_COPIED = {*WEIGHT_PARTS, "tokenizer", "scheduler"}


@dataclass(frozen=True)
class OpenedBase:
    """A complete base on the disk: its weights by part and key, and its configuration."""

    parts: ModelParts
    configuration: Configuration
    others: dict[str, Path]  # a folder's further files, such as a safety checker's
    metadata: dict[str, str]  # a single file's


def open_base(source: Path, opened: contextlib.ExitStack, *, vae: Path | None = None, ema: bool = False) -> OpenedBase:
    """A base, its files held open by `opened`. Raises BaseError for anything but a complete SD 1.5 base."""
    report = require_sd15(source)
    others: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    if source.is_dir():
        parts, configuration = parts_of_folder(source, opened), configuration_of_folder(source)
        others = {path.relative_to(source).as_posix(): path for path in _further_files(source)}
    else:
        file = opened.enter_context(TensorFile(source))
        metadata = dict(file.header.metadata)
        parts, configuration = parts_of_file(file, ema=ema), configuration_of_file(metadata, report.prediction_type)
        parts.text_prefix = "" if metadata.pop(TEXT_KEYS, TEXT_MODEL) == "" else TEXT_MODEL
    if vae is not None:
        parts.tensors["vae"] = parts_of_vae(vae, opened)
    parts.require_complete(source)
    _require_fit(source, parts, configuration)
    return OpenedBase(parts, configuration, others, metadata)


def _require_fit(source: Path, parts: ModelParts, configuration: Configuration) -> None:
    """Check that the weights have the widths of the configuration."""
    attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    sizes = [  # what, where, along which axis, what it should be
        ("the UNet's channels", "unet", "conv_in.weight", 0, configuration.unet["block_out_channels"][0]),
        ("the UNet's prompt embeddings", "unet", attention, 1, configuration.unet["cross_attention_dim"]),
        ("the VAE's channels", "vae", "encoder.conv_in.weight", 0, configuration.vae["block_out_channels"][0]),
        (
            "the tokens",
            "text_encoder",
            "embeddings.token_embedding.weight",
            0,
            configuration.text_encoder["vocab_size"],
        ),
    ]
    for what, part, key, axis, configured in sizes:
        size = parts.tensors[part][key].shape[axis]
        if size != configured:
            raise BaseError(
                f"{source}: {what} are {size}, but its configuration says {configured}; "
                "a file of other shapes than SD 1.5's must contain its configuration, as limner writes it"
            )


def _further_files(folder: Path) -> Iterator[Path]:
    """A folder's files besides the five parts: a safety checker, a ControlNet, recommended settings, a card."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        hidden = any(name.startswith(".") for name in inner.parts)
        wanted = len(inner.parts) > 1 or inner.suffix in (".json", ".md")
        if path.is_file() and wanted and not hidden and NOT_COPIED.isdisjoint(inner.parts[:1]):
            yield path
