"""How a download goes about it: in how many streams, and for how long at a time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

_GRACE = 0.1
_DISK_B_S = 100e6


class Slice:
    """The time that a task may go on with a download before it makes way.

    Args:
        seconds: How long that is; None for as long as it takes.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._start = time.monotonic()

    @property
    def is_limited(self) -> bool:
        """Whether it ends at all."""
        return self._seconds < math.inf

    @property
    def left_s(self) -> float:
        """Seconds until no new piece is begun; negative once it is over."""
        return self._start + self._seconds - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether no new piece is to be begun."""
        return self.left_s <= 0

    @property
    def is_overdrawn(self) -> bool:
        """Whether the pieces in flight had their time too: a tenth of the slice."""
        return self.is_limited and self.left_s <= -_GRACE * self._seconds

    def has_time_to_read(self, size: int) -> bool:
        """Return whether a pass over so many bytes may begin.

        It has to be one go, since the state of a hash cannot be kept. So a long one begins only
        while most of the slice is left, and then takes as long as it takes, which may be hours;
        with a fresh slice it always begins, or it never would. A disk of 100 MB/s is assumed.
        """
        return self.left_s >= min(self._seconds / 2, size / _DISK_B_S)


@dataclass(frozen=True)
class Pace:
    """How a download goes about it.

    Attributes:
        connections: How many ranges are fetched at once, where the server allows it.
        slice: How long it may go on.
    """

    connections: int = 1
    slice: Slice = field(default_factory=Slice)
