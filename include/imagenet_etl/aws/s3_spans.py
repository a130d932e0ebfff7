"""The parts of a large file, and the digests of them and of the whole, taken in one pass."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_unfinished import Part
from imagenet_etl.aws.s3_upload import MIB, changed

_MAX_PARTS = 10_000
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Span:
    """One part of the file: its number from 1, where it begins, its bytes and its digests."""

    number: int
    start: int
    size: int
    crc32: str
    md5: str

    def is_held_as(self, part: Part | None) -> bool:
        """Return whether S3 holds just these bytes, by its CRC32 or, if it has none, its MD5."""
        if part is None or part.size != self.size:
            return False
        return part.crc32 == self.crc32 if part.crc32 else part.etag.strip('"') == self.md5


class Digests:
    """SHA-256 and CRC32 over the whole file, taken as its spans are read."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self._crc = 0

    @property
    def crc32(self) -> str:
        """CRC32 of what was read so far, in base 64."""
        return _base64(self._crc)

    def spans(self, file: LocalFile, part_bytes: int, *, with_md5: bool) -> Iterator[Span]:
        """Yield the parts of a file in order.

        Raises:
            DatasetDamaged: It has another size than it had.
        """
        with file.path.open("rb", buffering=0) as source:
            for number, start in enumerate(range(0, file.size, part_bytes), 1):
                size = min(part_bytes, file.size - start)
                crc, md5, left = 0, hashlib.md5(usedforsecurity=False), size
                while left:
                    block = source.read(min(_BLOCK_BYTES, left))
                    if not block:
                        raise changed(file)
                    self.sha256.update(block)
                    self._crc = zlib.crc32(block, self._crc)
                    crc = zlib.crc32(block, crc)
                    if with_md5:
                        md5.update(block)
                    left -= len(block)
                yield Span(number, start, size, _base64(crc), md5.hexdigest() if with_md5 else "")
            if source.read(1):
                raise changed(file)


def part_size(size: int, least: int) -> int:
    """Return the bytes of a part: ``least``, or more MiB where 10,000 parts would not do."""
    needed = -(-size // _MAX_PARTS)
    return least if needed <= least else -(-needed // MIB) * MIB


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()
