"""Gzip files of any length, unpacked piece by piece and checked to their last byte.

Source: RFC 1952: members follow each other; each ends with the CRC-32 and the length (modulo 4 GiB)
of its content, which zlib compares. Zeros after the last member are padding, as gzip(1) takes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from imagenet_etl.errors import BadArchive

FEED_BYTES = 256 << 10
"""How much is best fed at once: what follows a member's end is copied, so not too much."""

_PIECE_BYTES = 4 << 20
_MAGIC = 0x1F
_AGAIN = "It is truncated or damaged: get it again"


class Gunzip:
    """Unpacks one file; memory is that of a few pieces, however well it was compressed.

    Args:
        what: The file's name, for errors.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._member: zlib._Decompress | None = None
        self._members = 0
        self._fed = 0
        self._is_padded = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the file unpack to, in pieces of at most 4 MiB.

        Raises:
            BadArchive: They are damaged, or are not those of a gzip file.
        """
        self._fed += len(data)
        while data:
            if self._member is None:
                data = self._begun(data)
                continue
            try:
                piece = self._member.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise self._bad(f"{error}, before byte {self._fed:,}") from error
            if self._member.eof:
                data, self._member = self._member.unused_data, None
            else:
                data = self._member.unconsumed_tail
            if piece:
                yield piece

    def _begun(self, data: bytes) -> bytes:
        """Return the data from where the next member begins; nothing where all is padding."""
        if self._members:
            kept = data.lstrip(b"\0")
            self._is_padded |= len(kept) < len(data)
            data = kept
        if data and (data[0] != _MAGIC or self._is_padded):
            foreign = "other bytes behind its end" if self._members else "other bytes"
            raise self._bad(f"{foreign}: {data[:16]!r}")
        if data:
            self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            self._members += 1
        return data

    def finish(self) -> None:
        """Make sure that the file is whole.

        Raises:
            BadArchive: It ends too early.
        """
        if self._member is not None or not self._members:
            raise self._bad(f"its end after {self._fed:,} bytes, in the middle of its content")

    def _bad(self, found: str) -> BadArchive:
        return BadArchive(
            f"{self._what} cannot be unpacked",
            expected="a whole gzip file",
            found=found,
            remedy=_AGAIN,
        )
