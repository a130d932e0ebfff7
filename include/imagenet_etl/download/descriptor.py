"""The open partial file: once it is closed, nothing reaches what bears its number next."""

from __future__ import annotations

import os
from pathlib import Path

_CLOSED = -1


class Fenced(Exception):
    """The partial file was begun anew or closed: this stream has nothing to write any more."""


class Descriptor:
    """A file that is read and written in place; after ``close`` every use of it raises ``Fenced``.

    Not guarded against a close in another thread, which is its owner's to prevent.

    Args:
        path: The file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @property
    def number(self) -> int:
        """The descriptor.

        Raises:
            Fenced: The file is closed.
        """
        self.require_open()
        return self._fd

    def require_open(self) -> None:
        """Let nobody go on who comes too late.

        Raises:
            Fenced: The file is closed.
        """
        if self._fd == _CLOSED:
            raise Fenced

    @property
    def size(self) -> int:
        """The file's length in bytes."""
        return os.fstat(self.number).st_size

    def write(self, view: memoryview, at: int) -> None:
        """Write all of a block, however many calls that takes."""
        while view:
            count = os.pwrite(self.number, view, at)
            at, view = at + count, view[count:]

    def truncate(self, size: int) -> None:
        """Cut the file, or make a hole at its end."""
        os.ftruncate(self.number, size)

    def copy(self) -> int:
        """Return another descriptor of the same file, which outlives a close."""
        return os.dup(self.number)

    def close(self) -> None:
        """Close the file for good."""
        fd, self._fd = self.number, _CLOSED
        os.close(fd)
