"""A file on disk that is read by position."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagenet_etl.storage.base import Stat
from imagenet_etl.streams import BLOCK_BYTES, read_blocks


class LocalFile:
    """A local file that is read by position; safe to share between threads."""

    seek_bytes = 1 << 14

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd
        self.stat = stat_of(os.fstat(fd))

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end of the file."""
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts, got = [data], len(data)
        while got < size and (data := os.pread(self._fd, size - got, offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def blocks(self) -> Iterator[memoryview]:
        """Yield the whole content in order, a large one past the page cache."""
        if self.stat.size < BLOCK_BYTES:
            return iter((memoryview(self.read_at(0, self.stat.size)),))
        return read_blocks(self._path)

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Ask the kernel to read the spans ahead."""
        for offset, size in spans:
            os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_WILLNEED)

    def current_stat(self) -> Stat | None:
        """Return what the file's name leads to now."""
        try:
            return stat_of(Path(self._path).stat())
        except FileNotFoundError:
            return None


@contextmanager
def open_local(path: Path | str) -> Iterator[LocalFile]:
    """Open any local file for reading by position.

    Raises:
        FileNotFoundError: There is no such file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise FileNotFoundError(f"{path} is a folder")
        yield LocalFile(str(path), fd)
    finally:
        os.close(fd)


def stat_of(state: os.stat_result) -> Stat:
    """Return size and tag of a file; its tag is the time of its last change."""
    return Stat(state.st_size, str(state.st_mtime_ns))
