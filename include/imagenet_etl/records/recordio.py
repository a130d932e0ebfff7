"""MXNet's RecordIO: ``.rec`` with its ``.idx`` and ``.lst``.

Source: dmlc-core ``recordio.h`` (framing and the split at the magic), MXNet 1.9
``python/mxnet/recordio.py`` (IRHeader), ``tools/im2rec.py`` (index and list files).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from imagenet_etl.errors import RecordError
from imagenet_etl.records.base import Placed, Record, Written

MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<II")
_IR_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
MAX_RECORD_BYTES = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_FOLLOWS = {False: (_WHOLE, _FIRST), True: (_MIDDLE, _LAST)}
SUFFIXES = (".rec", ".idx", ".lst")


def frame(data: bytes) -> bytes:
    """Return one record: framed, split wherever its data holds the magic on a 4-byte boundary.

    Raises:
        RecordError: The data is 2^29 bytes or longer.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise RecordError(
            "a RecordIO record is too long",
            expected=f"at most {MAX_RECORD_BYTES:,} bytes",
            found=f"{len(data):,}",
        )
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


def read_frame(data: bytes | mmap.mmap, at: int) -> tuple[bytes, int]:
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


def pack_image(labels: Sequence[float], key: int, image: bytes) -> bytes:
    """Return an image with MXNet's IRHeader: one label in it, several labels after it."""
    if len(labels) == 1:
        return _IR_HEADER.pack(0, labels[0], key, 0) + image
    head = _IR_HEADER.pack(len(labels), 0.0, key, 0)
    return head + struct.pack(f"<{len(labels)}f", *labels) + image


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


class _HashedFile:
    """A new file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = path.open("xb", buffering=1 << 20)
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size += len(data)

    def close(self) -> Written:
        self._file.close()
        return Written(self.path, self.size, self._sha256.hexdigest())

    def discard(self) -> None:
        self.path.unlink()
        # What is still buffered has nowhere to go on a full disk, and is not wanted.
        with suppress(OSError):
            self._file.close()


class RecordIoWriter:
    """Writes ``<name>.rec``, ``<name>.idx`` and ``<name>.lst`` below a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._files: list[_HashedFile] = []
        self._committed = False

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for suffix in SUFFIXES:
                self._files.append(_HashedFile(self._folder / f"{self._name}{suffix}"))
        except OSError:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._committed:
            self._discard()

    def _discard(self) -> None:
        for file in self._files:
            file.discard()
        # Other shards may be written beside this one.
        with suppress(OSError):
            self._folder.rmdir()

    def write(self, record: Record) -> Placed:
        """Append a record with its one label."""
        labels = (float(record.label),)
        return self.append(record.key, labels, record.data, record.path)

    def append(self, key: int, labels: Sequence[float], image: bytes, path: str) -> Placed:
        """Append an image with any number of labels and list it under ``path``."""
        rec, idx, lst = self._files
        framed = frame(pack_image(labels, key, image))
        placed = Placed(rec.path.name, rec.size, len(framed))
        rec.write(framed)
        idx.write(f"{key}\t{placed.offset}\n".encode())
        lst.write(list_line(key, labels, path).encode())
        return placed

    def join(self, part: Sequence[Path]) -> int:
        """Append another shard's .rec, .idx and .lst; return the byte at which it now starts."""
        rec, idx, lst = self._files
        start = rec.size
        with part[0].open("rb") as source:
            while block := source.read(1 << 20):
                rec.write(block)
        for key, offset in read_index(part[1].read_text()):
            idx.write(f"{key}\t{start + offset}\n".encode())
        lst.write(part[2].read_bytes())
        return start

    def commit(self) -> list[Written]:
        """Close the files and return them."""
        written = [file.close() for file in self._files]
        self._committed = True
        return written


def concatenate(
    parts: Sequence[Sequence[Path]], folder: Path, name: str
) -> tuple[list[Written], list[int]]:
    """Join the segments of a shard, each given as its .rec, .idx and .lst.

    Returns:
        The joined files, and the byte at which each segment starts in the joined ``.rec``.
    """
    with RecordIoWriter(folder, name) as writer:
        starts = [writer.join(part) for part in parts]
        return writer.commit(), starts


def read_index(text: str) -> Iterator[tuple[int, int]]:
    """Yield key and offset of each line of an ``.idx`` file.

    Raises:
        RecordError: A line is not two numbers.
    """
    for number, line in enumerate(text.splitlines(), 1):
        try:
            key, offset = (int(field) for field in line.split("\t"))
        except ValueError:
            raise RecordError(f"index line {number} is {line!r}") from None
        yield key, offset
