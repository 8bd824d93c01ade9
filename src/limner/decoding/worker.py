"""The decoding process: `python -m limner.decoding.worker`, which communicates through standard input and output.

A message is the length of a JSON text (4 bytes, little endian), the text, and the pixels that it announces. Nothing
from this process is ever unpickled, so a compromised decoder can do no more than return wrong pixels.

parent: {"path", "rules"}                     → {"pixels": about to be decoded}
parent: {}, when there is memory for them     → {"size", "source_size", "notes", "view_scale", "shape"} and the view
parent: {"cut": box, "size"}, any number of times → {"shape"} and the crop
parent: {"release"}                           → {}, and the photo is released

If a photo or a crop cannot be provided, the answer is {"refused": why}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from limner.decoding.confinement import confine
from limner.decoding.reading import DecodedPhoto, ReadingRules, RefusedPhotoError, load_readers, read_photo

LENGTH = struct.Struct("<I")
LARGE_PIXELS = 16_000_000


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    stream.write(LENGTH.pack(len(text)) + text)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Read one message; EOFError when the other side is gone."""
    length = stream.read(LENGTH.size)
    text = stream.read(LENGTH.unpack(length)[0]) if len(length) == LENGTH.size else b""
    if not text:
        raise EOFError
    return json.loads(text)


def main() -> None:
    """Decode on request until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # for anything that a decoder prints
    Image.MAX_IMAGE_PIXELS = None  # the rules' limit applies, with its own message
    load_readers()  # before files and libraries become unavailable
    confine()
    send(answers, {"ready": True})
    photo: DecodedPhoto | None = None
    while True:
        try:
            request = receive(sys.stdin.buffer)
            if "cut" in request and photo is not None:
                _send_crop(answers, photo, request)
                continue
            large = photo is not None and math.prod(photo.source_size) > LARGE_PIXELS
            photo = None  # before another is decoded, so that two are never in memory
            if large:
                _return_memory()
            if "path" in request:
                photo = _decode(answers, request)
            else:
                send(answers, {})
        except (EOFError, BrokenPipeError):
            os._exit(0)


def _decode(answers: BinaryIO, request: dict[str, Any]) -> DecodedPhoto | None:
    """The requested photo, once its view is sent; None if it is refused."""

    def ask(pixels: int) -> None:
        send(answers, {"pixels": pixels})
        receive(sys.stdin.buffer)

    try:
        photo = read_photo(Path(request["path"]), ReadingRules(**request["rules"]), ask)
        if math.prod(photo.source_size) > LARGE_PIXELS:
            _return_memory()  # of the decoded photo before it was reduced
        view, scale = photo.view()
    except RefusedPhotoError as error:
        send(answers, {"refused": str(error)})
        return None
    answer = {"size": photo.image.size, "source_size": photo.source_size, "notes": photo.notes, "view_scale": scale}
    _send_pixels(answers, answer, view)
    return photo


def _return_memory() -> None:
    """Give what is free back to the system, so that the processes together never hold several large photos' memory.

    Of ordinary photos it is kept for the next, as the pool asks of the allocator (glibc).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _send_crop(answers: BinaryIO, photo: DecodedPhoto, request: dict[str, Any]) -> None:
    try:
        crop = photo.cut(request["cut"], request["size"])
    except (MemoryError, ValueError, OSError) as error:
        send(answers, {"refused": f"cannot be cut ({error or type(error).__name__})"})
        return
    _send_pixels(answers, {}, crop)


def _send_pixels(answers: BinaryIO, told: dict[str, Any], pixels: np.ndarray) -> None:
    send(answers, told | {"shape": pixels.shape})
    answers.write(np.ascontiguousarray(pixels).data.cast("B"))
    answers.flush()


if __name__ == "__main__":
    main()
