"""The process that decodes: `python -m limner.decoding.worker`, spoken to through its standard input and output.

A message is the length of a JSON text (4 bytes, little endian), the text, and for a decoded photo its pixels. Nothing
that comes from here is ever unpickled, so a decoder that was taken over cannot reach further than wrong pixels.

parent: {"path", "rules"}                     → {"pixels": about to be decoded}
parent: {}, when there is memory for them     → {"shape", "source_size", "notes"} and the pixels, or {"refused": why}
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from limner.decoding.confinement import confine
from limner.decoding.reading import Photo, ReadingRules, RefusedPhotoError, heif_is_readable, read_photo

LENGTH = struct.Struct("<I")


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
    """Decode what is asked for until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints
    heif_is_readable()
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the rules' own limit holds, and names itself
    Image.init()  # its readers are found and loaded before the doors close
    confine()
    send(answers, {"ready": True})
    while True:
        try:
            request = receive(sys.stdin.buffer)
            _answer(answers, request)
        except (EOFError, BrokenPipeError):
            os._exit(0)


def _answer(answers: BinaryIO, request: dict[str, Any]) -> None:
    def ask(pixels: int) -> None:
        send(answers, {"pixels": pixels})
        receive(sys.stdin.buffer)

    try:
        photo: Photo = read_photo(Path(request["path"]), ReadingRules(**request["rules"]), ask)
    except RefusedPhotoError as error:
        send(answers, {"refused": str(error)})
        return
    told = {"shape": photo.pixels.shape, "source_size": photo.source_size, "notes": photo.notes}
    send(answers, told)
    answers.write(photo.pixels.data.cast("B"))
    answers.flush()


if __name__ == "__main__":
    main()
