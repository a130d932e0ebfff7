"""The structure of a JPEG file, read without decoding it.

Source: ITU-T T.81 (markers, Annex B), JFIF 1.02, Adobe technical note 5116 (APP14), Exif 2.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagenet_etl.errors import BadImage

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
# Frame headers: C0 to CF except DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS, _EOI_CODE, _APP1 = 0xDA, 0xD9, 0xE1
_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"


@dataclass(frozen=True)
class JpegInfo:
    """What the headers of a complete JPEG say.

    Attributes:
        width: Pixels.
        height: Pixels.
        components: 1 for greyscale, 3 for colour, 4 for CMYK or YCCK.
        precision: Bits a sample.
        is_common: Whether it is Huffman coded, baseline or progressive. Decoders built without the
            rest of the standard (lossless, arithmetic coding, hierarchical) are common too.
        orientation: Exif orientation, 1 (upright) to 8.
    """

    width: int
    height: int
    components: int
    precision: int
    is_common: bool
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height in pixels as a viewer that heeds Exif shows them."""
        sideways = self.orientation >= 5
        return (self.height, self.width) if sideways else (self.width, self.height)


def is_jpeg(data: bytes) -> bool:
    """Tell by content, whatever the file is named."""
    return data[:3] == SOI + b"\xff"


def probe_jpeg(data: bytes) -> JpegInfo:
    """Walk the marker segments up to the first scan and make sure that the file ends.

    Raises:
        BadImage: A segment is cut off or the end-of-image marker is missing.
    """
    frame: tuple[int, int, int, int, bool] | None = None
    orientation = 0
    at = 2
    while True:
        code, at = _next_marker(data, at)
        if code in _STANDALONE:
            continue
        if code == _EOI_CODE:
            raise BadImage("JPEG without image data")
        end = _segment_end(data, at)
        if code in _FRAMES and end - at >= 8:
            precision, height, width, components = struct.unpack(">BHHB", data[at + 2 : at + 8])
            frame = width, height, components, precision, code in _COMMON_FRAMES
        elif code == _APP1 and data[at + 2 : at + 8] == _EXIF:
            orientation = orientation or exif_orientation(data[at + 2 : end])
        at = end
        if code == _SOS:
            break
    if frame is None or not all(frame[:3]):
        raise BadImage("JPEG without a usable frame header")
    # Entropy-coded data escapes every FF byte, so FFD9 after the scan's start is the real end.
    if data.rfind(EOI, at) < 0:
        raise BadImage("JPEG cut off before its end-of-image marker")
    return JpegInfo(*frame, orientation or 1)


def _segment_end(data: bytes, at: int) -> int:
    """Return where the segment ends whose length, which counts its own two bytes, is at ``at``."""
    length = int.from_bytes(data[at : at + 2], "big")
    if length < 2 or at + length > len(data):
        raise BadImage("JPEG cut off in its headers")
    return at + length


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker code at ``at``, past fill bytes, and the position after it."""
    if at >= len(data) or data[at] != 0xFF:
        raise BadImage("JPEG with broken marker structure")
    while at < len(data) and data[at] == 0xFF:
        at += 1
    if at >= len(data):
        raise BadImage("JPEG cut off in its headers")
    if not data[at]:
        raise BadImage("JPEG with broken marker structure")
    return data[at], at + 1


def exif_orientation(exif: bytes) -> int:
    """Return the orientation of an Exif block, 1 when it has none or is broken."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    directory = struct.unpack_from(order + "I", tiff, 4)[0]
    if directory + 2 > len(tiff):
        return 1
    entries = struct.unpack_from(order + "H", tiff, directory)[0]
    for index in range(entries):
        at = directory + 2 + 12 * index
        if at + 12 > len(tiff):
            return 1
        tag, kind = struct.unpack_from(order + "HH", tiff, at)
        if (tag, kind) == (_ORIENTATION, 3):
            value = int(struct.unpack_from(order + "H", tiff, at + 8)[0])
            return value if 1 <= value <= 8 else 1
    return 1
