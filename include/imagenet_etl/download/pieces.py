"""The pieces of a download: which are proven, which are being written, which are free."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection


class Piece:
    """One piece that is being written, by one stream at a time.

    Attributes:
        number: Its place among the pieces.
        at: Where in the file the next byte goes.
        end: Where it ends.
        sha256: The hash of what it holds up to ``at``.
    """

    def __init__(self, number: int, start: int, end: int) -> None:
        self.number = number
        self.at = start
        self.end = end
        self.sha256 = hashlib.sha256()

    @property
    def room(self) -> int:
        """How many bytes are missing."""
        return self.end - self.at


class Pieces:
    """Hands out each piece once; not guarded, so its owner lets one thread in at a time.

    Memory is that of the proven pieces' digests: 20,000 of them for 1.3 TB.

    Args:
        piece_bytes: Length of a piece.
        total: Length of the file, None while nobody knows.
        proven: The SHA-256 of each finished piece.
    """

    def __init__(self, piece_bytes: int, total: int | None, proven: dict[int, str]) -> None:
        self.piece_bytes = piece_bytes
        self.total = total
        self.proven = proven
        self._next = 0
        self._returned: list[int] = []
        self._begun: dict[int, Piece] = {}

    @property
    def proven_bytes(self) -> int:
        """How many bytes the proven pieces hold."""
        whole = len(self.proven) * self.piece_bytes
        if self.total is None or (last := self.count - 1) not in self.proven:
            return whole
        return whole - self.piece_bytes + (self.end_of(last) - last * self.piece_bytes)

    @property
    def proven_end(self) -> int:
        """Where the last of the proven pieces ends."""
        return self.end_of(max(self.proven)) if self.proven else 0

    @property
    def whole_count(self) -> int:
        """How many pieces of full length the file has; 0 while its length is not known."""
        return (self.total or 0) // self.piece_bytes

    @property
    def missing_count(self) -> int:
        """How many pieces are not proven yet, of a file whose length is known."""
        return self.count - len(self.proven)

    def disprove(self, numbers: Collection[int]) -> None:
        """Take back that these pieces are proven; they are for the next process to fetch."""
        self.proven = {n: sha256 for n, sha256 in self.proven.items() if n not in numbers}

    def take(self) -> Piece | None:
        """Return the first piece that is neither proven nor taken; None if there is none."""
        if self._returned:
            return self._begun.pop(heapq.heappop(self._returned))
        while self._next in self.proven:
            self._next += 1
        if self.total is not None and self._next >= self.count:
            return None
        self._next += 1
        return self._fresh(self._next - 1)

    def take_after(self, piece: Piece) -> Piece | None:
        """Return the piece behind one if a stream may run on into it; None if it is not free."""
        number = piece.number + 1
        returned = self._begun.get(number)
        if returned is not None and returned.at == piece.end:
            self._returned.remove(number)
            heapq.heapify(self._returned)
            return self._begun.pop(number)
        is_there = self.total is None or number < self.count
        if number != self._next or number in self.proven or not is_there:
            return None
        self._next += 1
        return self._fresh(number)

    def give_back(self, piece: Piece) -> None:
        """Let another stream go on with an unfinished piece."""
        self._begun[piece.number] = piece
        heapq.heappush(self._returned, piece.number)

    @property
    def count(self) -> int:
        """How many pieces the file has; 0 while its length is not known."""
        return -(-(self.total or 0) // self.piece_bytes)

    def end_of(self, number: int) -> int:
        """Return where a piece ends."""
        end = (number + 1) * self.piece_bytes
        return end if self.total is None else min(end, self.total)

    def _fresh(self, number: int) -> Piece:
        return Piece(number, number * self.piece_bytes, self.end_of(number))
