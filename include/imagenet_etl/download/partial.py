"""A download under way, wherever its bytes go: which pieces there are, and whose turn each is.

Streams in several threads take pieces, write to them, and give back what they do not finish. What
a finished piece is, and what outlives the process, is for the two kinds to say: ``PartFile`` on a
disk, ``PartObject`` in a bucket.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from imagenet_etl.download.descriptor import Fenced
from imagenet_etl.download.journal import MAX_PIECE, MIN_PIECE, Past, RemoteFile
from imagenet_etl.download.pieces import Piece, Pieces
from imagenet_etl.download.read_back import ALGORITHMS, Digests


class Log(Protocol):
    """What is noted of a download: whose it is, and what it has been through."""

    url: str
    past: Past


class Partial(ABC):
    """What has come of a file; whoever holds a piece from before it was begun anew gets ``Fenced``.

    Attributes:
        remote: What is downloaded; None while nothing is begun.
        size: Bytes that have come, those in flight included.
        folder: Where it takes room on a disk; None for nowhere.

    Args:
        log: What is noted of it.
        check: Called before each write; raises when this process no longer owns it.
    """

    folder: Path | None = None

    def __init__(self, log: Log, check: Callable[[], None]) -> None:
        self._notes = log
        self._check = check
        self._guard = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        """Forget what there is, in this process."""
        self._valid: set[Piece] = set()
        self.remote: RemoteFile | None = None
        self.size = 0
        self._pieces = Pieces(MIN_PIECE, None, {})
        self._digests = Digests()

    @property
    def proven_bytes(self) -> int:
        """How many bytes the next process will find; ``size`` counts those in flight as well."""
        return self._pieces.proven_bytes

    @property
    def pieces(self) -> Pieces:
        """How the file is cut, and what of it is proven; to be looked at only."""
        return self._pieces

    @property
    def past(self) -> Past:
        """What the download has been through, in whatever processes."""
        return self._notes.past

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there."""
        return self.remote is not None and self.size == self.remote.total

    @property
    def must_be_read_back(self) -> bool:
        """Whether the digests were not taken while the file was written."""
        return self._digests.at != self.size

    def meant_for(self, url: str) -> None:
        """Drop what was fetched of another URL, and what that download has been through."""
        if url != self._notes.url:
            self.discard()
            self._notes.url = url

    def fetched_of(self, url: str) -> int:
        """Return how many bytes of a URL's file earlier processes are known to have fetched."""
        return self.past.dropped_bytes + self.size if url == self._notes.url else 0

    def start(self, remote: RemoteFile, piece: Piece | None = None) -> None:
        """Begin the file anew; what was there is dropped.

        Args:
            remote: What will be in it.
            piece: The piece of the stream that wants it; None where no stream is at work.

        Raises:
            Fenced: The piece is no longer that stream's.
        """
        self._check()
        with self._guard:
            if piece is not None:
                self._require(piece)
            self._notes.past = self.past.dropping(self.size)
            self._begin(remote, Pieces(self._piece_bytes(remote.total), remote.total, {}))

    def _piece_bytes(self, total: int | None) -> int:
        """Return how long the pieces of a file of so many bytes are."""
        return max(MIN_PIECE, min(MAX_PIECE, (total or 0) // 64))

    def learn_total(self, total: int, piece: Piece) -> None:
        """Note the length that the server did not tell at first; ``piece`` may be the last one.

        Raises:
            Fenced: The piece is no longer this stream's.
        """
        with self._guard:
            self._require(piece)
            assert self.remote is not None
            if self.remote.total is None:
                self.remote = replace(self.remote, total=total)
                self._pieces.total = total
                piece.end = min(piece.end, total)

    def take(self) -> Piece | None:
        """Return a piece to write, from where an earlier stream of this process left it."""
        with self._guard:
            return self._taken(self._pieces.take())

    def take_after(self, piece: Piece) -> Piece | None:
        """Return the piece behind a finished one, unless another stream has it."""
        with self._guard:
            return self._taken(self._pieces.take_after(piece))

    def _taken(self, piece: Piece | None) -> Piece | None:
        self._require_open()
        if piece is not None:
            self._valid.add(piece)
        return piece

    def give_back(self, piece: Piece) -> None:
        """Leave an unfinished piece to another stream."""
        with self._guard:
            if piece in self._valid:
                self._valid.remove(piece)
                self._pieces.give_back(piece)

    def fence(self) -> None:
        """Let no stream that is still at a piece write any more."""
        with self._guard:
            self._valid.clear()

    def _require(self, piece: Piece) -> None:
        if piece not in self._valid:
            raise Fenced

    def start_over(self) -> None:
        """Drop what cannot be gone on with, and note that it came to that."""
        with self._guard:
            past = replace(self.past, restarts=self.past.restarts + 1)
            self._drop(past.dropping(self.size))

    def empty(self) -> None:
        """Drop the content; what the download has been through stays noted."""
        with self._guard:
            self._drop(self.past.dropping(self.size))

    def discard(self) -> None:
        """Drop the content, and what the download has been through."""
        with self._guard:
            self._drop(Past())

    def _mismatched(self) -> Past:
        """Return the past of one that is complete and not what was expected."""
        past = replace(self.past, restarts=0, mismatches=self.past.mismatches + 1)
        return past.dropping(self.size)

    @abstractmethod
    def write(self, piece: Piece, block: memoryview) -> None:
        """Append bytes to a piece, which must have room for them; the last ones prove it.

        Raises:
            Fenced: It is no longer this stream's.
        """

    @abstractmethod
    def digests(
        self, algorithms: Sequence[str] = ALGORITHMS, read: Callable[[int], None] = lambda _: None
    ) -> dict[str, str]:
        """Return digests of the whole file.

        They were taken while it was written, if that was in one go and in order: else in one pass.

        Args:
            algorithms: Which of ``md5`` and ``sha256``.
            read: Told how many bytes were read back, block by block.
        """

    @abstractmethod
    def set_aside(self) -> Path | None:
        """Begin with nothing after wrong content; return where that is kept for a look at it."""

    @abstractmethod
    def _require_open(self) -> None:
        """Raise ``Fenced`` once it is closed."""

    @abstractmethod
    def _begin(self, remote: RemoteFile, pieces: Pieces) -> None:
        """Begin a file with these pieces, those that are proven kept."""

    @abstractmethod
    def _drop(self, past: Past) -> None:
        """Drop the content and note the past."""
