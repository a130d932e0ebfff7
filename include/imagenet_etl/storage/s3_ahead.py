"""Byte ranges that are fetched before they are read, in bounded memory.

What was asked for is joined into pieces, where a small gap costs less than another request. Pieces
of one object never overlap. They are fetched in the order of asking while there is room; one that
still waits for room when a byte of it is read is taken apart, and the reader fetches what it reads.
So no byte is fetched twice, unless it was asked for twice while there was no room.

Memory: ``Room`` of all objects together, 64 MiB, and what readers hold themselves.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

ROOM_BYTES = 64 << 20
LARGEST_GAP = 4 << 10
GAPS_OF_ASKED = 50
"""One byte in so many that were asked for may be one between them."""
_JOINED_BYTES = 4 << 20

Interval = tuple[int, int]
Fetch = Callable[[int, int], bytes]
"""Returns bytes from an offset, so many of them; called from any thread."""


@dataclass(eq=False)
class Piece:
    """One range to fetch: where it begins and ends, and what of it is asked for and unread.

    Attributes:
        future: Its bytes, once there was room to ask for them.
        is_dropped: Nobody waits for it any more.
    """

    start: int
    end: int
    wanted: Counter[Interval] = field(default_factory=Counter)
    future: Future[bytes] | None = None
    is_dropped: bool = False

    @property
    def size(self) -> int:
        """Return its bytes."""
        return self.end - self.start

    def has_failed(self) -> bool:
        """Return whether fetching it ended without its bytes."""
        future = self.future
        return future is not None and future.done() and (
            future.cancelled() or future.exception() is not None
        )  # fmt: skip

    def forget(self, start: int, end: int) -> None:
        """Take what was just read from what is still wanted."""
        read = max(start, self.start), min(end, self.end)
        if self.wanted[read]:
            self.wanted[read] -= 1
            if not self.wanted[read]:
                del self.wanted[read]
        else:
            self.wanted = without(self.wanted, *read)


class Room:
    """The memory that all objects of a storage share for what is fetched ahead.

    Args:
        pool: Returns the threads that fetch.
        most_bytes: How much may be under way or lie unread.
    """

    def __init__(self, pool: Callable[[], Executor], most_bytes: int = ROOM_BYTES) -> None:
        self.lock = threading.Lock()
        self.used_bytes = 0
        self.most_used_bytes = 0
        self._pool = pool
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[Piece, Fetch]] = deque()

    def add(self, pieces: Sequence[Piece], fetch: Fetch) -> None:
        """Let pieces wait for room behind those that wait already; the lock is held."""
        self._waiting.extend((piece, fetch) for piece in pieces)
        self._start()

    def drop(self, piece: Piece) -> None:
        """Give a piece's room to those that wait; the lock is held."""
        piece.is_dropped = True
        if piece.future is not None:
            piece.future.cancel()
            self.used_bytes -= piece.size
        self._start()

    def _start(self) -> None:
        while self._waiting:
            piece, fetch = self._waiting[0]
            # What is larger than the whole room is left to its reader.
            if not piece.is_dropped and piece.size <= self._most_bytes:
                if self.used_bytes + piece.size > self._most_bytes:
                    return
                self.used_bytes += piece.size
                self.most_used_bytes = max(self.most_used_bytes, self.used_bytes)
                piece.future = self._pool().submit(fetch, piece.start, piece.size)
            self._waiting.popleft()


class ReadAhead:
    """What of one object is fetched ahead; safe to share between threads.

    Args:
        fetch: Gets a range of the object.
        size: The object's bytes.
        room: What it shares with other objects.
    """

    def __init__(self, fetch: Fetch, size: int, room: Room) -> None:
        self._fetch, self._size, self._room = fetch, size, room
        self._pieces: list[Piece] = []
        self._asked_bytes = self._gap_bytes = 0

    def ask(self, spans: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch spans, each an offset and a size, that are not under way already."""
        with self._room.lock:
            fresh: list[Interval] = []
            for offset, size in spans:
                fresh += self._not_under_way(offset, min(offset + size, self._size))
            self._asked_bytes += covered_bytes(fresh)
            gaps = self._asked_bytes // GAPS_OF_ASKED - self._gap_bytes
            pieces = joined(fresh, gaps, lambda start, end: not self._overlapping(start, end))
            self._gap_bytes += sum(piece.size - covered_bytes(piece.wanted) for piece in pieces)
            for piece in pieces:
                insort(self._pieces, piece, key=_start_of)
            self._room.add(pieces, self._fetch)

    def _not_under_way(self, at: int, end: int) -> list[Interval]:
        """Return what of a span has no piece yet, and note the rest at the pieces that have it."""
        fresh: list[Interval] = []
        if at >= end:
            return fresh
        for piece in self._overlapping(at, end):
            if at < piece.start:
                fresh.append((at, piece.start))
            part = max(at, piece.start), min(end, piece.end)
            piece.wanted[part] += 1
            at = part[1]
        return [*fresh, (at, end)] if at < end else fresh

    def take(self, offset: int, size: int) -> bytes:
        """Return bytes, those that were fetched ahead and others; they are forgotten."""
        end = offset + size
        with self._room.lock:
            found = self._overlapping(offset, end)
            for piece in found:
                if piece.future is None:
                    self._take_apart(piece, offset, end)
            ready = [(piece, piece.future) for piece in found if piece.future is not None]
        if not ready:
            return self._fetch(offset, size)
        try:
            first, future = ready[0]
            if (first.start, first.end) == (offset, end):
                return future.result()
            return self._put_together(offset, end, ready)
        finally:
            with self._room.lock:
                for piece, _ in ready:
                    piece.forget(offset, end)
                    if not piece.wanted or piece.has_failed():
                        self._drop(piece)

    def _put_together(
        self, at: int, end: int, ready: Sequence[tuple[Piece, Future[bytes]]]
    ) -> bytes:
        parts: list[bytes | memoryview] = []
        for piece, future in ready:
            if at < piece.start:
                parts.append(self._fetch(at, piece.start - at))
                at = piece.start
            until = min(end, piece.end)
            parts.append(memoryview(future.result())[at - piece.start : until - piece.start])
            at = until
        if at < end:
            parts.append(self._fetch(at, end - at))
        return b"".join(parts)

    def _take_apart(self, piece: Piece, start: int, end: int) -> None:
        """Leave out of a piece that waits for room what its reader fetches now."""
        rest = list(without(piece.wanted, start, end))
        self._drop(piece)
        pieces = joined(rest)
        for each in pieces:
            insort(self._pieces, each, key=_start_of)
        self._room.add(pieces, self._fetch)

    def close(self) -> None:
        """Forget all that was asked for."""
        with self._room.lock:
            for piece in list(self._pieces):
                self._drop(piece)

    def _drop(self, piece: Piece) -> None:
        if not piece.is_dropped:
            self._pieces.remove(piece)
            self._room.drop(piece)

    def _overlapping(self, start: int, end: int) -> list[Piece]:
        first = bisect_right(self._pieces, start, key=_start_of)
        if first and self._pieces[first - 1].end > start:
            first -= 1
        found = []
        for piece in self._pieces[first:]:
            if piece.start >= end:
                break
            found.append(piece)
        return found


def joined(
    spans: Sequence[Interval],
    most_gap_bytes: int = 0,
    is_free: Callable[[int, int], bool] = lambda _start, _end: True,
) -> list[Piece]:
    """Join spans that overlap, touch or nearly touch; return the pieces in the order of asking.

    Args:
        spans: Where each begins and ends.
        most_gap_bytes: How much may lie between those joined, in all.
        is_free: Tells whether what lies between them may be fetched.
    """
    order: dict[Interval, int] = {}
    for number, span in enumerate(spans):
        order.setdefault(span, number)
    ordered = sorted(order)
    gaps = [gap for gap in _gaps(ordered) if is_free(*gap)] if most_gap_bytes else []
    bridged = _smallest(gaps, most_gap_bytes)
    pieces: list[Piece] = []
    counts = Counter(spans)
    for start, end in ordered:
        last = pieces[-1] if pieces else None
        is_near = last is not None and (start <= last.end or (last.end, start) in bridged)
        is_small = last is not None and end - last.start <= _JOINED_BYTES
        if last is None or not is_near or not (is_small or start < last.end):
            last = Piece(start, end)
            pieces.append(last)
        last.end = max(last.end, end)
        last.wanted[start, end] = counts[start, end]
    return sorted(pieces, key=lambda piece: min(order[span] for span in piece.wanted))


def _gaps(spans: Sequence[Interval]) -> Iterator[Interval]:
    """Yield the gaps between sorted spans that are worth reading over."""
    reached = spans[0][1] if spans else 0
    for start, end in spans:
        if 0 < start - reached <= LARGEST_GAP:
            yield reached, start
        reached = max(reached, end)


def _smallest(gaps: Sequence[Interval], most_bytes: int) -> set[Interval]:
    kept: set[Interval] = set()
    for start, end in sorted(gaps, key=lambda gap: gap[1] - gap[0]):
        most_bytes -= end - start
        if most_bytes < 0:
            break
        kept.add((start, end))
    return kept


def covered_bytes(spans: Iterable[Interval]) -> int:
    """Return how many different bytes spans hold."""
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def without(spans: Counter[Interval], start: int, end: int) -> Counter[Interval]:
    """Return spans less what lies in another one."""
    rest: Counter[Interval] = Counter()
    for (first, last), count in spans.items():
        for part in ((first, min(last, start)), (max(first, end), last)):
            if part[0] < part[1]:
                rest[part] += count
    return rest


def _start_of(piece: Piece) -> int:
    return piece.start
