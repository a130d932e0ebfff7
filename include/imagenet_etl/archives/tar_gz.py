"""Small compressed tars, unpacked into memory: what a development kit comes as."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence

from imagenet_etl.errors import BadArchive, UnsafeMember
from imagenet_etl.storage import ReadAt, Stat

MAX_PACKED_BYTES = 64 << 20
MAX_UNPACKED_BYTES = 512 << 20


class Unpacked:
    """A file's content in memory, in the place of an open file; see ``storage.ReadAt``.

    Args:
        content: All of it.
        tag: That of the file it was made of.
    """

    seek_bytes = 0

    def __init__(self, content: bytes, tag: str) -> None:
        self.stat = Stat(len(content), tag)
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end."""
        return self._content[offset : offset + size]

    def blocks(self) -> Iterator[memoryview]:
        """Yield the content."""
        yield memoryview(self._content)

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Do nothing: it is in memory."""

    def current_stat(self) -> Stat:
        """Return what never changes."""
        return self.stat


def unpacked(file: ReadAt, archive: str) -> Unpacked:
    """Return what a gzipped tar unpacks to.

    Args:
        file: The open archive, of at most ``MAX_PACKED_BYTES``.
        archive: Its name, for errors.

    Raises:
        BadArchive: It is truncated or damaged.
        UnsafeMember: It unpacks to more than ``MAX_UNPACKED_BYTES``.
    """
    packed = io.BytesIO(file.read_at(0, MAX_PACKED_BYTES))
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            content = stream.read(MAX_UNPACKED_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise BadArchive(
            f"{archive} cannot be unpacked",
            expected="a whole gzip file",
            found=error,
            remedy="It is truncated or damaged: get it again",
        ) from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise UnsafeMember(
            f"{archive} unpacks to too much", expected=f"at most {MAX_UNPACKED_BYTES:,} bytes"
        )
    return Unpacked(content, file.stat.tag)
