"""PNG files with their origin in their metadata.

tEXt "parameters"             prompt and settings, as the AUTOMATIC1111 web UI writes and other programs read them
tEXt "limner"                 JSON: the cell's key, by which it is recognised as current, and its exact settings
iTXt "XML:com.adobe.xmp"      IPTC's mark of a picture made by a trained model
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limner.artifacts import hash_bytes

PARAMETERS, STAMP, XMP = "parameters", "limner", "XML:com.adobe.xmp"
COMPRESS_LEVEL = 2  # of zlib: 2.5 times as fast as Pillow's default of 6, and files are a ninth larger
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def encode_png(image: np.ndarray, stamp: Mapping[str, Any], parameters: str = "") -> bytes:
    """PNG bytes of (H, W, 3) uint8: equal arguments give equal bytes.

    With `parameters` the picture is marked as made by a trained model; without, it has only its stamp.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if parameters:
        info.add_text(PARAMETERS, parameters)  # becomes iTXt if Latin-1 cannot encode it
        info.add_itxt(XMP, XMP_PACKET)
    info.add_text(STAMP, json.dumps(dict(stamp), sort_keys=True))
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", pnginfo=info, compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def stamped_key(path: Path) -> str:
    """The key in a picture's stamp, without decoding it; "" where there is none."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return str(json.loads(picture.info[STAMP])["key"])
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return ""


def read_stamp(path: Path, content_hash: str | None = None) -> dict[str, Any] | None:
    """The stamp of a complete PNG by limner; None if missing, damaged, by another program, or of another hash."""
    from PIL import Image

    try:
        content = path.read_bytes()
        if content_hash is not None and hash_bytes(content) != content_hash:
            return None
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()  # finds a truncated file
            stamp = json.loads(picture.info[STAMP])
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return None
    return stamp if isinstance(stamp, dict) else None
