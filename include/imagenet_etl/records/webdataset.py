"""WebDataset: tars of ``<wnid>/<stem>.jpg`` and ``.cls``, with the index that DALI reads.

The same records give the same bytes: no times, owners or padding to 10 KiB. Source: POSIX.1-1988
(ustar header), the WebDataset file format specification (files of one stem are one sample), NVIDIA
DALI's ``wds2idx`` (index version 1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imagenet_etl.errors import RecordError
from imagenet_etl.records.base import Content, Placed, Record, Written
from imagenet_etl.records.shard import JoiningWriter, text_lines

_BLOCK = 512
END = bytes(2 * _BLOCK)
"""What follows the last sample of a shard."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_NUMBER = re.compile(r"[0-9]{1,18}")
_OFFSETS = (1, 5)
_MODE = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE = b"0" * 11 + b"\0"
_BEFORE_SUM = b" " * 8
_AFTER_SUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
_FIXED_SUM = sum(_MODE) + sum(_AFTER_SIZE) + sum(_BEFORE_SUM) + sum(_AFTER_SUM)


def tar_header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a regular file.

    Raises:
        RecordError: The name is longer than 100 bytes, or the size is 8 GiB or more.
    """
    raw = name.encode()
    if len(raw) > 100 or size >= 8**11:
        raise RecordError(f"{name} of {size:,} bytes does not fit a ustar header")
    digits = b"%011o\0" % size
    total = _FIXED_SUM + sum(raw) + sum(digits)
    return b"".join(
        (raw.ljust(100, b"\0"), _MODE, digits, _AFTER_SIZE, b"%06o\0 " % total, _AFTER_SUM)
    )


class WebDatasetWriter(JoiningWriter):
    """Writes ``<name>.tar`` and DALI's ``<name>.idx`` below a folder.

    Memory: a line of the index, about 90 bytes, for each sample: it begins with their number.
    """

    suffixes = (".tar", ".idx")

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self._lines = bytearray()
        self._samples = 0

    def write(self, record: Record) -> Placed:
        """Append an image and its class."""
        placed = Placed(self._files[0].path.name, self._files[0].size)
        stem = sample_name(record)
        label = str(record.label).encode()
        image = self._add(f"{stem}{record.suffix}", record.data)
        self._list(f"{image} {self._add(f'{stem}.cls', label)}")
        return placed

    def _list(self, line: str) -> None:
        self._lines += f"{line}\n".encode()
        self._samples += 1

    def _add(self, name: str, data: bytes) -> str:
        tar = self._files[0]
        tar.write(tar_header(name, len(data)))
        offset = tar.size
        tar.write(data, bytes(-len(data) % _BLOCK))
        return f"{name.rpartition('.')[2]} {offset} {len(data)} {name}"

    def join(self, part: Sequence[Path]) -> int:
        """Append another shard's .tar, without its end, and .idx."""
        start = self._copy(part[0], end=END)
        for fields in _samples(text_lines([part[1].read_bytes()])):
            for at in _OFFSETS:
                fields[at] = str(start + int(fields[at]))
            self._list(" ".join(fields))
        return start

    def commit(self) -> list[Written]:
        """Finish the files and return them."""
        tar, idx = self._files
        tar.write(END)
        idx.write(f"v1.2 {self._samples}\n".encode(), bytes(self._lines))
        return super().commit()


def sample_name(record: Record) -> str:
    """Return what a sample's files are called up to their suffix.

    Readers cut at the first dot of the base name, the index at spaces, and DALI's tool knows ASCII
    only. So a stem with anything odd loses it, and gets its key behind a ``~``, which no other stem
    has, to stay apart from its neighbours.
    """
    stem = record.stem
    if not _PLAIN.fullmatch(stem):
        stem = f"{_ODD.sub('_', stem)[:48]}~{record.key}"
    return f"{record.wnid}/{stem}"


def read_record(data: bytes | memoryview) -> Content:
    """Return what one sample, from its first header to the next sample's or to ``END``, holds.

    Raises:
        RecordError: It is not an image followed by its class.
    """
    image, at = _read_file(data, 0)
    label, at = _read_file(data, at)
    if at != len(data) or not bytes(label).isdigit():
        raise RecordError("a sample is not an image and its class")
    return Content(float(bytes(label)), image)


def _read_file(data: bytes | memoryview, at: int) -> tuple[bytes | memoryview, int]:
    header = bytes(data[at : at + _BLOCK])
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    digits = header[124:135]
    size = int(digits, 8) if digits.isdigit() and max(digits) < ord("8") else -1
    start = at + _BLOCK
    if size < 0 or header != tar_header(name, size) or start + size > len(data):
        raise RecordError(f"no tar header at byte {at} of the sample, or less than it promises")
    return data[start : start + size], start + size + -size % _BLOCK


def read_index(lines: Iterable[str]) -> Iterator[tuple[None, int]]:
    """Yield where the first header of each sample is, from the lines of an ``.idx``; it has no key.

    Raises:
        RecordError: The index is malformed.
    """
    return ((None, int(fields[_OFFSETS[0]]) - _BLOCK) for fields in _samples(lines))


def _samples(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the fields of each sample: suffix, offset, size and name of the image, then of .cls."""
    rest = iter(lines)
    head, count = next(rest, ""), 0
    for count, line in enumerate(rest, 1):
        fields = line.split(" ")
        if len(fields) != 8 or not all(_NUMBER.fullmatch(fields[at]) for at in _OFFSETS):
            raise RecordError(f"index line {count + 1} is {line!r}")
        yield fields
    if head != f"v1.2 {count}":
        raise RecordError(f"an index of {count} samples begins with {head!r}")
