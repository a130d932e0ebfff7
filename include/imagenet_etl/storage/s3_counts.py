"""What reading from a bucket costs, as it is counted and measured on the way.

A caller reads ``counted`` before and after what it does; the difference of two is what that cost::

    before = storage.counted
    ...
    cost = storage.counted - before
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

_LEAST_SEEK, _MOST_SEEK = 64 << 10, 8 << 20
_FIRST_SEEK = 1 << 20
_USUAL_BYTES_PER_S = 64 << 20
_TELLING_BYTES = 256 << 10
"""The kernel holds shorter bodies before they are read: they tell nothing of a stream's speed."""
_WEIGHT, _WEIGHT_OF_SLOWER = 0.2, 0.02


@dataclass(frozen=True)
class Counted:
    """Requests that read objects, and the bytes of their bodies."""

    gets: int = 0
    bytes: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.gets + other.gets, self.bytes + other.bytes)

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.gets - other.gets, self.bytes - other.bytes)


def counted(reader: object) -> Counted:
    """Return what a storage or an open object has read so far; nothing for those on disk."""
    found = getattr(reader, "counted", None)
    return found if isinstance(found, Counted) else Counted()


class Reads:
    """Counts of one reader, and of the one that it belongs to; safe to share between threads."""

    def __init__(self, whole: Reads | None = None) -> None:
        self._whole = whole
        self._counted = Counted()
        self._guard = threading.Lock()

    def add(self, size: int) -> None:
        """Count a request whose body had ``size`` bytes."""
        with self._guard:
            self._counted += Counted(1, size)
        if self._whole is not None:
            self._whole.add(size)

    @property
    def counted(self) -> Counted:
        """Return what was read so far."""
        return self._counted


class Pace:
    """How long a request takes to be answered, and how fast a body comes: running means.

    A slower answer weighs little: it may have waited for others that are under way.
    """

    def __init__(self) -> None:
        self._latency_s = 0.0
        self._bytes_per_s = float(_USUAL_BYTES_PER_S)

    def note(self, latency_s: float, body_s: float, size: int) -> None:
        """Note a request: seconds until its answer, then those of its body, and the bytes."""
        known_s = self._latency_s or latency_s
        weight = _WEIGHT if latency_s < known_s else _WEIGHT_OF_SLOWER
        self._latency_s = known_s + (latency_s - known_s) * weight
        if size >= _TELLING_BYTES:
            speed = size / max(body_s, 1e-6)
            self._bytes_per_s += (speed - self._bytes_per_s) * _WEIGHT

    @property
    def seek_bytes(self) -> int:
        """Return how many bytes one stream brings in the time that another request takes."""
        if not self._latency_s:
            return _FIRST_SEEK
        return int(min(max(self._latency_s * self._bytes_per_s, _LEAST_SEEK), _MOST_SEEK))
