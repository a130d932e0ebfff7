"""What one attempt at a download leaves to the next: how many streams the server seems to bear."""

from __future__ import annotations

import time
from dataclasses import dataclass

from imagenet_etl.download.slices import Slice

_CALM_PIECES = 16
_STRAYS = 3


@dataclass
class Course:
    """What one attempt leaves to the next.

    Attributes:
        connections: How many streams are wanted.
        slice: How long they may go on.
        limit: How many the server is thought to bear.
        in_ranges: Whether it is thought to honour ranges.
        finished: How many pieces were finished.
        calm: How many of them since a stream was last refused, or one more was allowed.
        quiet_until: Before that time, by the monotonic clock, the server wants no more streams.
        strays: How many answers in a row have said that ranges cannot be had, when one stream was
            left to ask.
    """

    connections: int
    slice: Slice
    limit: int = 0
    in_ranges: bool = True
    finished: int = 0
    calm: int = 0
    quiet_until: float = 0.0
    strays: int = 0

    def __post_init__(self) -> None:
        self.limit = self.connections

    def piece_finished(self) -> None:
        """Count a piece, and after enough of them let one more stream try."""
        self.finished += 1
        self.calm += 1
        is_calm = self.calm >= _CALM_PIECES and time.monotonic() >= self.quiet_until
        if is_calm and self.limit < self.connections:
            self.limit, self.calm = self.limit + 1, 0

    @property
    def is_sure(self) -> bool:
        """Whether an answer that ranges cannot be had is believed; one alone never is."""
        return not self.in_ranges or self.strays >= _STRAYS

    def refused(self, left: int, retry_after_s: float) -> None:
        """Note that the server bears no more streams than are left, for so long at least."""
        self.limit, self.calm = max(1, left), 0
        self.quiet_until = max(self.quiet_until, time.monotonic() + retry_after_s)
