"""Small ICC profiles as scanners, phones and presses write them (ICC.1:2010), made by hand."""

from __future__ import annotations

import struct

D50 = (0.9642, 1.0, 0.8249)
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))  # columns, adapted to D50


def display_p3() -> bytes:
    """Display P3, with a plain gamma of 2.2."""
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {b"wtpt": _xyz(D50)} | {
        name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), DISPLAY_P3, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def press() -> bytes:
    """CMYK to Lab through a table of 16 corners in which full cyan is a dull blue-green, and so on."""
    inks = ((0.45, 0.62, 0.72), (0.72, 0.35, 0.5), (0.96, 0.9, 0.3), (0.25, 0.25, 0.25))
    corners = []
    for corner in range(16):
        left = [1.0, 1.0, 1.0]
        for ink in range(4):
            if corner >> (3 - ink) & 1:
                left = [value * share for value, share in zip(left, inks[ink], strict=True)]
        corners += [
            round(255 * (sum(left) / 3)),
            round(128 + 60 * (left[0] - left[1])),
            round(128 + 60 * (left[1] - left[2])),
        ]
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(corners) + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"wtpt": _xyz(D50)})


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(kind: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for tests\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78 + 1), **tags}
    at, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        index += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"", 0x02400000, kind, colours, connection, bytes(12), b"acsp")
    head += bytes(68 - len(head)) + struct.pack(">3i", *(round(value * 65536) for value in D50))
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + index + body
