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
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_DHT, _DQT, _SOS, _EOI_CODE, _APP1 = 0xC4, 0xDB, 0xDA, 0xD9, 0xE1
_SAMPLINGS = bytes(across << 4 | down for across in range(1, 5) for down in range(1, 5))
# A table's first byte holds its precision (8 or 16 bits) and its number; 64 entries follow.
_TABLE_LENGTHS = {bits << 4 | number: 65 + 64 * bits for bits in (0, 1) for number in range(4)}
_ORIENTATION = 0x0112
_EXIF = b"Exif\0\0"

MAX_SCANS = 100
"""A scan of a few bytes costs a decoder a pass over the whole image; encoders write about ten."""


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
        is_progressive: Whether it comes in several scans, be it that they refine one another or
            that each holds one component: a decoder then holds coefficients of the whole image.
        orientation: Exif orientation, 1 (upright) to 8.
    """

    width: int
    height: int
    components: int
    precision: int
    is_common: bool
    is_progressive: bool
    orientation: int = 1


def is_jpeg(data: bytes) -> bool:
    """Tell by content, whatever the file is named."""
    return data[:3] == SOI + b"\xff"


def probe_jpeg(data: bytes) -> JpegInfo:
    """Walk the marker segments up to the first scan and make sure that the file ends.

    Raises:
        BadImage: A segment is cut off, a decoder would miss something in the headers, there are
            more than ``MAX_SCANS`` scans, or the end-of-image marker is missing.
    """
    frame = b""
    tables: set[int] = set()
    at = 2
    code = frame_code = orientation = 0
    has_codes = False
    while code != _SOS:
        code, start = _next_marker(data, at)
        at = start
        if code in _STANDALONE:
            continue
        if code == _EOI_CODE:
            raise BadImage("JPEG without image data")
        at = _segment_end(data, start)
        if code == _DHT:
            has_codes = True
        elif code == _DQT:
            tables |= _tables(data, start + 2, at)
        elif code in _FRAMES:
            if frame_code:
                raise BadImage("JPEG with a second frame header")
            frame_code, frame = code, data[start + 2 : at]
        elif code == _APP1 and data[start + 2 : start + 8] == _EXIF:
            orientation = orientation or exif_orientation(data[start + 2 : at])
    _check_frame(frame, None if frame_code in _LOSSLESS else tables)
    _check_scan(data[start + 2 : at], frame)
    if not has_codes and frame_code not in _ARITHMETIC:
        raise BadImage("JPEG without a Huffman table")
    # In a sequential image, decoders refuse what follows a scan of all components.
    is_progressive = frame_code in _PROGRESSIVE or data[start + 2] < frame[5]
    _check_rest(data, at, is_progressive)
    return _info(frame_code, frame, is_progressive, orientation or 1)


def _info(code: int, frame: bytes, is_progressive: bool, orientation: int) -> JpegInfo:
    precision, height, width, components = struct.unpack_from(">BHHB", frame)
    is_common = code in _COMMON_FRAMES
    return JpegInfo(width, height, components, precision, is_common, is_progressive, orientation)


def _tables(data: bytes, at: int, end: int) -> set[int]:
    """Return the numbers of the quantization tables that a segment defines."""
    numbers = set()
    while at < end:
        head = data[at]
        at += _TABLE_LENGTHS.get(head, end)
        numbers.add(head & 15)
    if at != end:
        raise BadImage("JPEG with a broken quantization table")
    return numbers


def _check_frame(frame: bytes, tables: set[int] | None) -> None:
    """Check a frame header, and its tables if it needs any.

    It is a byte of precision, two each of height and width, one of the number of components, and
    three for each: identifier, sampling factors, quantization table.
    """
    is_whole = len(frame) > 6 and len(frame) == 6 + 3 * frame[5]
    if not is_whole or frame[1:3] == b"\0\0" or frame[3:5] == b"\0\0":
        raise BadImage("JPEG without a usable frame header")
    if frame[7::3].translate(None, _SAMPLINGS):
        raise BadImage("JPEG with sampling factors other than 1 to 4")
    if tables is not None and not tables.issuperset(frame[8::3]):
        raise BadImage("JPEG without a quantization table it names")


def _check_scan(scan: bytes, frame: bytes) -> None:
    """Check a scan header: the number of components, two bytes for each, and three more."""
    if not scan or not 1 <= scan[0] <= min(4, frame[5]) or len(scan) != 4 + 2 * scan[0]:
        raise BadImage("JPEG without a usable scan header")
    if scan[1:-3:2].translate(None, frame[6::3]):
        raise BadImage("JPEG with a scan of a component that its frame has not")


def _check_rest(data: bytes, at: int, is_progressive: bool) -> None:
    # Entropy-coded data escapes every FF byte, so FFD9 after the scan's start is the real end, and
    # every FFDA another scan.
    if data.rfind(EOI, at) < 0:
        raise BadImage("JPEG cut off before its end-of-image marker")
    if is_progressive and data.count(b"\xff\xda", at) >= MAX_SCANS:
        raise BadImage(f"JPEG with more than {MAX_SCANS} scans")


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
