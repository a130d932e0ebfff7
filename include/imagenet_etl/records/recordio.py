"""MXNet's RecordIO: ``.rec`` with its ``.idx`` and ``.lst``.

Source: dmlc-core ``recordio.h`` (framing and the split at the magic), MXNet 1.9
``python/mxnet/recordio.py`` (IRHeader), ``tools/im2rec.py`` (index and list files).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagenet_etl.errors import RecordError
from imagenet_etl.records.base import Content, Placed, Record
from imagenet_etl.records.shard import JoiningWriter

_MAGIC = 0xCED7230A
MAGIC = struct.pack("<I", _MAGIC)
_HEADER = struct.Struct("<II")
_IR_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
MAX_RECORD_BYTES = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
MAX_LABEL = 1 << 24
"""Above it, a float32 does not hold every whole number."""

_FOLLOWS = {False: (_WHOLE, _FIRST), True: (_MIDDLE, _LAST)}


def frame(data: bytes) -> bytes:
    """Return one record: framed, split wherever its data holds the magic on a 4-byte boundary.

    Raises:
        RecordError: The data is 2^29 bytes or longer.
    """
    _checked_length(len(data))
    pieces = _split_at_magic(data)
    out = bytearray()
    for number, piece in enumerate(pieces):
        if len(pieces) == 1:
            flag = _WHOLE
        elif number == 0:
            flag = _FIRST
        else:
            flag = _LAST if number == len(pieces) - 1 else _MIDDLE
        out += MAGIC + struct.pack("<I", flag << _LENGTH_BITS | len(piece))
        out += piece + bytes(-len(piece) % 4)
    return bytes(out)


def _checked_length(length: int) -> int:
    if length > MAX_RECORD_BYTES:
        raise RecordError(
            "a RecordIO record is too long",
            expected=f"at most {MAX_RECORD_BYTES:,} bytes",
            found=f"{length:,}",
        )
    return length


def _holds_magic(data: bytes) -> bool:
    """Return whether the magic stands on a 4-byte boundary; ten times as fast as a search."""
    return bool((np.frombuffer(data, "<u4", len(data) // 4) == _MAGIC).any())


def _split_at_magic(data: bytes) -> list[bytes]:
    pieces, start, at = [], 0, data.find(MAGIC)
    while at >= 0:
        if at % 4:
            at = data.find(MAGIC, at + 1)
            continue
        pieces.append(data[start:at])
        start = at + 4
        at = data.find(MAGIC, start)
    pieces.append(data[start:])
    return pieces


def read_frame(data: bytes | memoryview | mmap.mmap, at: int) -> tuple[bytes, int]:
    """Return the record's data that starts at byte ``at`` and the position after it.

    Raises:
        RecordError: There is no whole record.
    """
    pieces: list[bytes] = []
    while True:
        if bytes(data[at : at + 4]) != MAGIC or at + _HEADER.size > len(data):
            raise RecordError(f"no RecordIO magic at byte {at}")
        word = _HEADER.unpack_from(data, at)[1]
        flag, length = word >> _LENGTH_BITS, word & MAX_RECORD_BYTES
        start = at + _HEADER.size
        end = start + length + -length % 4
        if end > len(data) or flag not in _FOLLOWS[bool(pieces)]:
            raise RecordError(f"the RecordIO record at byte {at} is cut off or out of order")
        pieces.append(bytes(data[start : start + length]))
        at = end
        if flag in (_WHOLE, _LAST):
            return MAGIC.join(pieces), at


def image_header(labels: Sequence[float], key: int) -> bytes:
    """Return MXNet's IRHeader: one label stands in it, several stand after it."""
    if len(labels) == 1:
        return _IR_HEADER.pack(0, labels[0], key, 0)
    head = _IR_HEADER.pack(len(labels), 0.0, key, 0)
    return head + struct.pack(f"<{len(labels)}f", *labels)


def pack_image(labels: Sequence[float], key: int, image: bytes) -> bytes:
    """Return an image with its IRHeader in front."""
    return image_header(labels, key) + image


@dataclass(frozen=True)
class UnpackedImage:
    """A record's content: labels, the key it was packed with, and the image file."""

    labels: tuple[float, ...]
    key: int
    image: bytes


def unpack_image(data: bytes) -> UnpackedImage:
    """Reverse ``pack_image``.

    Raises:
        RecordError: The data is shorter than its header says.
    """
    if len(data) < _IR_HEADER.size:
        raise RecordError(f"a record of {len(data)} bytes has no image header")
    flag, label, key, _ = _IR_HEADER.unpack_from(data)
    start = _IR_HEADER.size + 4 * flag
    if not flag:
        return UnpackedImage((label,), key, data[start:])
    if start > len(data):
        raise RecordError(f"a record of {len(data)} bytes cannot hold {flag} labels")
    labels = struct.unpack_from(f"<{flag}f", data, _IR_HEADER.size)
    return UnpackedImage(labels, key, data[start:])


def list_line(key: int, labels: Sequence[float], path: str) -> str:
    """Return a line of a ``.lst`` file as ``im2rec.py --list`` writes it."""
    return f"{key}\t" + "".join(f"{label:f}\t" for label in labels) + f"{path}\n"


class RecordIoWriter(JoiningWriter):
    """Writes ``<name>.rec``, ``<name>.idx`` and ``<name>.lst`` below a folder."""

    suffixes = (".rec", ".idx", ".lst")

    def write(self, record: Record) -> Placed:
        """Append a record with its one label.

        Raises:
            RecordError: The label does not fit the format, or the image is too long for it.
        """
        if record.label > MAX_LABEL:
            raise RecordError(
                f"label {record.label:,} of {record.path} is no float32",
                expected=f"at most {MAX_LABEL:,}",
            )
        labels = (float(record.label),)
        return self.append(record.key, labels, record.data, record.path)

    def append(self, key: int, labels: Sequence[float], image: bytes, path: str) -> Placed:
        """Append an image with any number of labels and list it under ``path``."""
        rec, idx, lst = self._files
        placed = Placed(rec.path.name, rec.size)
        head = image_header(labels, key)
        length = _checked_length(len(head) + len(image))
        if _holds_magic(head) or _holds_magic(image):
            rec.write(frame(pack_image(labels, key, image)))
        else:
            rec.write(_HEADER.pack(_MAGIC, length) + head, image, bytes(-length % 4))
        idx.write(f"{key}\t{placed.offset}\n".encode())
        lst.write(list_line(key, labels, path).encode())
        return placed

    def join(self, part: Sequence[Path]) -> int:
        """Append another shard's .rec, .idx and .lst; return the byte at which it now starts."""
        _, idx, lst = self._files
        start = self._copy(part[0])
        for key, offset in read_index(part[1].read_text()):
            idx.write(f"{key}\t{start + offset}\n".encode())
        lst.write(part[2].read_bytes())
        return start


def read_record(data: bytes | memoryview) -> Content:
    """Return what one record, from its start to the next one's, holds.

    Raises:
        RecordError: It is not a whole record with one label.
    """
    content, end = read_frame(data, 0)
    image = unpack_image(content)
    if end != len(data) or len(image.labels) != 1:
        raise RecordError(f"a record of {end} bytes and {len(image.labels)} labels")
    return Content(image.labels[0], image.image, image.key)


def read_index(text: str) -> Iterator[tuple[int, int]]:
    """Yield key and offset of each line of an ``.idx`` file.

    Raises:
        RecordError: A line is not two numbers.
    """
    return read_index_lines(text.splitlines())


def read_index_lines(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Do the same for an index that comes line by line."""
    for number, line in enumerate(lines, 1):
        try:
            key, offset = (int(field) for field in line.split("\t"))
        except ValueError:
            raise RecordError(f"index line {number} is {line!r}") from None
        yield key, offset
