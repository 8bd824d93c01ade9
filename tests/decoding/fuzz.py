"""Mutated pictures through the decoding processes: `python -m tests.decoding.fuzz --count 2000`.

Every mutation follows from (seed, index): a sound picture of some format with bytes changed, runs removed, repeated or
zeroed, numbers made extreme, two files spliced. What must come out is a photo or a reason, never a crash or a hang.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from limner.decoding import Decoders, HeldPhoto, ReadingRules, RefusedPhotoError, heif_is_readable
from tests.drawn import draw_subject

RULES = ReadingRules(64)
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


def sound_pictures() -> list[bytes]:
    """A few small pictures of every format and of several modes."""
    formats = (*FORMATS, "HEIF") if heif_is_readable() else FORMATS
    plain = draw_subject((160, 130), 3)
    options = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
    pictures = [_saved(plain, name, **options) for name in formats if name not in ("BMP", "GIF", "TIFF")]
    pictures += [_saved(plain, name) for name in ("BMP", "GIF", "TIFF")]
    pictures += [_saved(plain.convert("CMYK"), "JPEG"), _saved(plain, "JPEG", progressive=True)]
    pictures += [_saved(plain.convert(mode), "PNG") for mode in ("P", "LA", "1", "I;16", "RGBA")]
    pictures += [_saved(plain, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")]
    more = {"save_all": True, "append_images": [draw_subject((160, 130), 4)]}
    return pictures + [_saved(plain, name, **more) for name in ("GIF", "WEBP", "PNG")]


def _saved(picture: Image.Image, name: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def mutated(pictures: list[bytes], seed: int, index: int) -> bytes:
    """Mutation `index`: always the same one."""
    rng = np.random.default_rng((seed, index))
    content = bytearray(pictures[int(rng.integers(len(pictures)))])
    for _ in range(int(rng.integers(1, 9))):
        early = rng.random() < 0.5  # headers are where most can go wrong
        at = int(rng.integers(min(400, len(content)) if early else len(content)))
        run = int(rng.integers(1, 200))
        kind = rng.integers(7)
        if kind == 0:
            content[at] = int(rng.integers(256))
        elif kind == 1:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            content[at : at + 4] = EXTREMES[int(rng.integers(len(EXTREMES)))]
        elif kind == 3:
            del content[at : at + run]
        elif kind == 4:
            content[at:at] = content[at : at + run]
        elif kind == 5:
            content[at : at + run] = bytes(run)
        else:
            other = pictures[int(rng.integers(len(pictures)))]
            content[at : at + run] = other[at : at + run]
        if len(content) < 16:
            break
    return bytes(content)


def fuzz(folder: Path, count: int, seed: int, processes: int = 2) -> tuple[Counter, list[str]]:
    """How many were read, refused, crashed or hung, and the names of files of the last two kinds."""
    pictures, paths = sound_pictures(), []
    for index in range(count):
        paths.append(folder / f"{index:06d}.bin")
        paths[-1].write_bytes(mutated(pictures, seed, index))
    outcomes, bad = Counter(), []
    with Decoders(processes) as decoders:
        outcomes_in_order = decoders.each([(path, RULES) for path in paths], _cut)
        for path, outcome in zip(paths, outcomes_in_order, strict=True):
            told = str(outcome) if isinstance(outcome, RefusedPhotoError) else ""
            kind = (
                "crashed" if "crashed" in told else "hung" if "took longer" in told else "refused" if told else "read"
            )
            outcomes[kind] += 1
            bad += [f"{path.name}: {told}"] if kind in ("crashed", "hung") else []
    return outcomes, bad


def _cut(place: int, photo: HeldPhoto) -> tuple[int, ...]:
    return photo.cut((0, 0, *photo.size), (64, 64)).shape


def main() -> None:
    """Run many and say what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.decoding.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, bad = fuzz(Path(folder), options.count, options.seed)
    print(f"{options.count} mutated pictures in {time.monotonic() - began:.0f} s: {dict(outcomes)}", *bad, sep="\n")


if __name__ == "__main__":
    main()
