"""Reading past the page cache, to learn how fast a disk is and not how much memory there is."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

ALIGNED = 4096
"""Direct reads begin and end at such bounds, which suits every sector size in use."""

_UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}


class Uncached:
    """A file that is read by position; safe to share between threads.

    It is opened with ``O_DIRECT``. Where the file system knows no such thing, ``forget`` drops the
    ranges from the page cache instead.

    Args:
        path: The file.

    Attributes:
        is_direct: Whether reads pass the cache by.
    """

    def __init__(self, path: Path) -> None:
        self._local = threading.local()
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.is_direct = self._open_direct(path)
        if not self.is_direct:
            # Reading ahead would make the next random read look fast.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def _open_direct(self, path: Path) -> bool:
        """Open the file past the cache, if its file system can; some refuse the first read only."""
        plain = self._fd
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return False
        try:
            self.read(0, ALIGNED)
        except OSError as error:
            os.close(self._fd)
            self._fd = plain
            if error.errno not in _UNSUPPORTED:
                raise
            return False
        os.close(plain)
        return True

    @staticmethod
    def whole(size: int) -> int:
        """Return a size as whole blocks."""
        return -(-size // ALIGNED) * ALIGNED

    def read(self, offset: int, size: int) -> int:
        """Read ``size`` bytes, rounded up to blocks, and return how many there were.

        Args:
            offset: Where to begin, in whole blocks.
            size: How many bytes.
        """
        return os.preadv(self._fd, [self._buffer(self.whole(size))], offset)

    def _buffer(self, size: int) -> mmap.mmap:
        """Return this thread's buffer, which lies on a page of its own as direct reads want it."""
        held: mmap.mmap | None = getattr(self._local, "buffer", None)
        if held is None or len(held) != size:
            held = mmap.mmap(-1, size)
            self._local.buffer = held
        return held

    def forget(self, offset: int, size: int) -> None:
        """Drop a range from the page cache, where reads would find it there."""
        if not self.is_direct:
            os.posix_fadvise(self._fd, offset, self.whole(size), os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
