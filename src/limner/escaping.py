"""Text from outside, such as the names of files, as it can be shown, logged and written down."""

from __future__ import annotations

import unicodedata

SHOWN = "\n\t"  # control characters that messages of several lines have
UNSHOWABLE = ("Cc", "Cs")  # Unicode's control characters and halves of surrogate pairs
REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}  # marks that write a text backwards from there on


def printable(text: str) -> str:
    r"""`text` with terminal escapes, bytes that are no UTF-8 and marks that reorder text in the form \x1b."""
    return "".join(letter if letter in SHOWN else _shown(letter) for letter in text)


def shown_name(name: str) -> str:
    r"""A file's name, escaped as by `printable`; different names stay different, since \ becomes \\ ."""
    return "".join(r"\\" if letter == "\\" else _shown(letter) for letter in name)


def _shown(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python reads it in names (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(letter) in UNSHOWABLE or code in REORDERING:
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return letter
