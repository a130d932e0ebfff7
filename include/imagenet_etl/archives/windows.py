"""The part of a file in memory while a walk goes from header to header: how much is read at once.

On a disk the next header costs a seek, so windows are small, and none is used where headers are
further apart than a seek is worth. In a bucket each read is a request, which takes as long as
``seek_bytes`` of reading on. So headers that are nearer to each other than that, those of usual
images among them, are found by reading through in windows of up to 4 MiB, and others by hops from
one to the next. Either way the cheaper of the two is taken, as far as the distances so far tell.
Where a request is worth 1 MiB, ILSVRC2012's training images of 110 KB are read through: 148 GB by
some 38,000 requests, in place of 1.28 million hops. Members of 3 MB would be hopped between.
"""

from __future__ import annotations

from collections import deque

from imagenet_etl.archives.tar_header import BLOCK
from imagenet_etl.storage import ReadAt

AHEAD = 8
"""Windows under way where one walk has the bucket for itself: 32 MiB."""

_DISK_FIRST, _DISK_LARGEST, _DISK_FAR = 4 << 10, 1 << 20, 16 << 10
_FIRST, _LARGEST = 256 << 10, 4 << 20
_ALONE = 16 << 10  # what comes along with a header costs nothing: its extensions, a tar's end
_GROWTH = 4


def by_request(file: ReadAt) -> bool:
    """Return whether each read of a file is a request to a server, by what a seek is worth."""
    return file.seek_bytes > _DISK_FAR


class Window:
    """Some bytes of a file on a disk.

    Args:
        file: The open file.
        start: Where the walk starts, in bytes.
        end: Where it ends.

    Attributes:
        data: The bytes.
        at: Where they start in the file.
    """

    _first, _largest = _DISK_FIRST, _DISK_LARGEST

    def __init__(self, file: ReadAt, start: int, end: int) -> None:
        self._file = file
        self._end = end
        self._span = self._first
        self.data = b""
        self.at = start

    @property
    def far(self) -> int:
        """How far apart headers are that are better hopped between, in bytes."""
        return _DISK_FAR

    @property
    def hops(self) -> bool:
        """Whether a header that stands alone is read without a window."""
        return True

    def holds(self, at: int, size: int = BLOCK) -> bool:
        """Return whether bytes of the file are in the window."""
        return 0 <= at - self.at <= len(self.data) - size

    def read_on(self, at: int, *, far: bool = False) -> None:
        """Let the window start at a header, and be larger each time.

        Args:
            at: Where it is to start.
            far: Whether the next header is likely to stand alone in it.
        """
        del far  # hops come before
        self._fill(at, self._next_span())

    def hopped(self) -> None:
        """Begin with small windows again."""
        self._span = self._first

    def take(self, at: int, size: int) -> bytes:
        """Return bytes of the window or the file, fewer only at the file's end."""
        if not self.holds(at, size):
            return self._file.read_at(at, size)
        return self.data[at - self.at : at - self.at + size]

    def forget(self) -> None:
        """Give its memory back."""
        self.data = b""

    def _next_span(self) -> int:
        span = self._span
        self._span = min(_GROWTH * span, self._largest)
        return span

    def _fill(self, at: int, size: int) -> None:
        self.data = b""  # or two windows would be held at once
        self.data = self._file.read_at(at, max(0, min(size, self._end - at)))
        self.at = at


class WindowByRequest(Window):
    """Some bytes of an object in a bucket.

    Args:
        file: The open object.
        start: Where the walk starts, in bytes.
        end: Where it ends.
        ahead: How many windows are asked for at once when the walk has turned out to read through;
            0 where other walks keep the connections busy.
    """

    _first, _largest = _FIRST, _LARGEST

    def __init__(self, file: ReadAt, start: int, end: int, ahead: int = 0) -> None:
        super().__init__(file, start, end)
        if end - start <= min(self.far, self._largest):
            self._span = end - start  # to read all of it costs less than to ask twice
        self._ahead = ahead
        self._asked: deque[tuple[int, int]] = deque()

    @property
    def far(self) -> int:
        """What one more request is worth, in bytes."""
        return max(_ALONE, self._file.seek_bytes)

    @property
    def hops(self) -> bool:
        """A window costs no more than a header alone."""
        return False

    def read_on(self, at: int, *, far: bool = False) -> None:
        """Let the window start at a header, and be larger each time, or small where it is alone."""
        if far or at < self.at:
            self.hopped()
            self._leave()
            self._fill(at, _ALONE)
        elif self._asked or (self._ahead and self._span == self._largest):
            self._flow(at, BLOCK)
        else:
            self._fill(at, self._next_span())

    def take(self, at: int, size: int) -> bytes:
        """Return bytes of the window, which follows where it has to."""
        if not self.holds(at, size):
            if self._asked and at >= self.at:
                self._flow(at, size)
            else:
                self._leave()
                self._fill(at, max(size, _ALONE))
        return self.data[at - self.at : at - self.at + size]

    def _flow(self, at: int, least: int) -> None:
        """Let the window start at ``at``, by what was asked for before, and ask for more."""
        parts = [self.data[at - self.at :]]
        reached = at + len(parts[0])
        least = min(least, self._end - at)
        while reached - at < least:
            self._ask_from(reached)
            start, size = self._asked.popleft()
            piece = self._file.read_at(start, size)
            if start + size <= reached:
                continue  # a member spans all of it: read, so that it does not wait in memory
            parts.append(piece[max(0, reached - start) :])
            reached = start + size
            if len(piece) < size:
                break
        self.data, self.at = b"".join(parts), at

    def _ask_from(self, reached: int) -> None:
        """Ask for the windows from the last that was asked for on, or from here."""
        asked: list[tuple[int, int]] = []
        start = sum(self._asked[-1]) if self._asked else reached
        skips = self._asked and start <= reached  # nothing of what is under way is of use
        while not skips and start < self._end and len(self._asked) + len(asked) < self._ahead:
            asked.append((start, min(self._largest, self._end - start)))
            start += self._largest
        if asked:
            self._file.will_need(asked)
            self._asked += asked

    def _leave(self) -> None:
        """Read what was asked for in vain, so that it does not wait in memory."""
        while self._asked:
            self._file.read_at(*self._asked.popleft())


def window_of(file: ReadAt, start: int, end: int, ahead: int = 0) -> Window:
    """Return the window that suits a file; see ``WindowByRequest``."""
    if by_request(file):
        return WindowByRequest(file, start, end, ahead)
    return Window(file, start, end)
