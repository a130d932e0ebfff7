"""An open file that is read as an object in a bucket is, and notes each request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagenet_etl.storage import ReadAt, Stat


class ByRequest:
    """Another open file, each of whose reads is a request.

    Attributes:
        seek_bytes: What a request is worth.
        reads: Offset and size of each read.
        asked: Offset and size of all that was asked for ahead and is not read yet.
        most_asked: The most bytes that were asked for and not read.
    """

    def __init__(self, file: ReadAt, seek_bytes: int = 1 << 20) -> None:
        self._file = file
        self.stat = file.stat
        self.seek_bytes = seek_bytes
        self.reads: list[tuple[int, int]] = []
        self.asked: list[tuple[int, int]] = []
        self.most_asked = 0

    @property
    def bytes(self) -> int:
        """How many bytes were read."""
        return sum(size for _, size in self.reads)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes, and forget that they were asked for."""
        data = self._file.read_at(offset, size)
        self.reads.append((offset, len(data)))
        if (offset, size) in self.asked:
            self.asked.remove((offset, size))
        return data

    def blocks(self) -> Iterator[memoryview]:
        """Yield the content."""
        return self._file.blocks()

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Note what is asked for."""
        self.asked += spans
        self.most_asked = max(self.most_asked, sum(size for _, size in self.asked))

    def current_stat(self) -> Stat | None:
        """Return what the name leads to."""
        return self._file.current_stat()
