"""The structure of a PNG file, read without decoding it.

Source: PNG specification, third edition (W3C 2025): chunks, IHDR, tRNS, acTL, eXIf.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from imagenet_etl.images.jpeg import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_SPECIAL = frozenset({b"tRNS", b"acTL"})
"""Chunks of images that are more than their pixels: transparency, animation."""


@dataclass(frozen=True)
class PngInfo:
    """What the chunks of a complete, plain PNG say.

    Attributes:
        width: Pixels.
        height: Pixels.
        orientation: Exif orientation, 1 (upright) to 8.
    """

    width: int
    height: int
    orientation: int = 1


def is_png(data: bytes) -> bool:
    """Tell by content, whatever the file is named."""
    return data.startswith(SIGNATURE)


def probe_png(data: bytes) -> PngInfo | None:
    """Return what a PNG says of itself if it is whole and plain, else None.

    Whole: its chunks have the right checksums up to IEND. Plain: 8 bits a sample, grey or RGB,
    neither transparent nor animated.
    """
    at = len(SIGNATURE)
    info: PngInfo | None = None
    has_pixels = False
    view = memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body, after = at + 8, at + 8 + length
        if after + 4 > len(data):
            return None
        if zlib.crc32(view[at + 4 : after]) != int.from_bytes(data[after : after + 4], "big"):
            return None
        if info is None:
            info = _header(data[body:after]) if kind == b"IHDR" else None
            if info is None:
                return None
        elif kind == b"eXIf":
            info = PngInfo(info.width, info.height, exif_orientation(data[body:after]))
        elif kind in _SPECIAL:
            return None
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            return info if has_pixels else None
        at = after + 4
    return None


def _header(body: bytes) -> PngInfo | None:
    if len(body) != 13:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", body)
    plain = depth == 8 and colour in (_GREY, _RGB)
    return PngInfo(width, height) if plain and width and height else None
