"""The local headers of a zip's members, which alone tell where their data start."""

from __future__ import annotations

from imagenet_etl.archives.windows import AHEAD, by_request, window_of
from imagenet_etl.storage import ReadAt

_DIRECTORY_BLOCK, _DIRECTORY_BLOCK_BY_REQUEST = 1 << 20, 8 << 20


def directory_block(file: ReadAt) -> int:
    """Return how many bytes of the central directory are read at once."""
    return _DIRECTORY_BLOCK_BY_REQUEST if by_request(file) else _DIRECTORY_BLOCK


class LocalHeads:
    """Reads local headers in the order of the directory, which usually is that of the members.

    On a disk each is a read of its own. In a bucket those of small members come with their data,
    many with a request, as in a tar; see ``windows``.

    Args:
        file: The open archive.
        end: Where the members end: where the central directory starts.
    """

    def __init__(self, file: ReadAt, end: int) -> None:
        self._file = file
        self._window = window_of(file, 0, end, AHEAD)
        self._by_request = by_request(file)
        self._served = 0

    def read(self, at: int, size: int) -> bytes:
        """Return a header, fewer bytes only at the members' end."""
        if not self._by_request:
            return self._file.read_at(at, size)
        window = self._window
        if not window.holds(at, size):
            moved = at - window.at
            window.read_on(at, far=moved < 0 or moved >= window.far * max(1, self._served))
            self._served = 0
        self._served += 1
        return window.take(at, size)
