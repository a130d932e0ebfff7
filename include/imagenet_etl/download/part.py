"""A download under way: ``<archive>.part`` and the journal of what is proven to be in it.

The file is written in pieces that may be finished in any order, so it may have holes. The journal
gets a piece's SHA-256 after the piece was flushed. Whatever else is in the file counts for nothing
when the download resumes, so a crash or power cut costs at most the pieces in flight.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from imagenet_etl.download.descriptor import Descriptor, Fenced
from imagenet_etl.download.journal import MAX_PIECE, MIN_PIECE, Logbook, Past, RemoteFile
from imagenet_etl.download.leftovers import aside_of, remove_leftovers
from imagenet_etl.download.pieces import Piece, Pieces
from imagenet_etl.download.read_back import ALGORITHMS, Digests, changed_on_disk
from imagenet_etl.files import make_folders

__all__ = ["Fenced", "PartFile", "remove_leftovers"]


class PartFile:
    """The partial file; a context manager. Streams in several threads may write to it.

    Whoever comes when it is closed, or with a piece from before it was begun anew, gets ``Fenced``.

    Args:
        path: The partial file; made with its folders when missing.
        check: Called before each write; raises when this process no longer owns the file.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check = check
        self._log = Logbook(path)
        self._guard = threading.Lock()
        self._valid: set[Piece] = set()
        self.remote: RemoteFile | None = None
        self.size = 0
        make_folders(path.parent)
        self._file = Descriptor(path)
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._guard:
            self._valid.clear()
            if kind is not None and issubclass(kind, OSError):
                # Beyond the last finished piece nothing is of use to the next run, and on a full
                # disk the locks need a little room to be given back.
                self._file.truncate(self._pieces.proven_end)
            self._file.close()

    @property
    def path(self) -> Path:
        """The partial file's path."""
        return self._path

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
        return self._log.past

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there."""
        return self.remote is not None and self.size == self.remote.total

    @property
    def must_be_read_back(self) -> bool:
        """Whether the digests were not taken while the file was written."""
        return self._digests.at != self.size

    def _load(self) -> None:
        journal = self._log.read()
        if journal is None:
            self.discard()
            return
        there = self._file.size
        pieces = Pieces(journal.piece_bytes, journal.remote.total, {})
        pieces.proven = {n: d for n, d in journal.proven.items() if pieces.end_of(n) <= there}
        self._begin(journal.remote, pieces)

    def meant_for(self, url: str) -> None:
        """Drop what was fetched of another URL, and what that download has been through."""
        if url != self._log.url:
            self.discard()
            self._log.url = url

    def fetched_of(self, url: str) -> int:
        """Return how many bytes of a URL's file earlier processes are known to have fetched."""
        return self.past.dropped_bytes + self.size if url == self._log.url else 0

    def start(self, remote: RemoteFile, piece: Piece | None = None) -> None:
        """Begin the file anew; what was there is dropped.

        Args:
            remote: What will be in it.
            piece: The piece of the stream that wants it; None where no stream is at work.

        Raises:
            Fenced: The piece is no longer that stream's.
        """
        self._check()
        piece_bytes = max(MIN_PIECE, min(MAX_PIECE, (remote.total or 0) // 64))
        with self._guard:
            if piece is not None:
                self._require(piece)
            self._log.past = self.past.dropping(self.size)
            self._begin(remote, Pieces(piece_bytes, remote.total, {}))

    def _begin(self, remote: RemoteFile, pieces: Pieces) -> None:
        self._valid.clear()
        self.remote, self._pieces = remote, pieces
        self.size = pieces.proven_bytes
        self._digests = Digests()
        self._file.truncate(pieces.proven_end)
        self._log.write(remote, pieces.piece_bytes, pieces.proven)

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
        self._file.require_open()
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
        """Let no stream that is still at a piece write to the file any more."""
        with self._guard:
            self._valid.clear()

    def write(self, piece: Piece, block: memoryview) -> None:
        """Append bytes to a piece, which must have room for them; the last ones prove it.

        Raises:
            Fenced: It is no longer this stream's.
        """
        self._check()
        with self._guard:
            self._require(piece)
            self._file.write(block, piece.at)
            self._digests.wrote(piece.at, block)
            piece.sha256.update(block)
            piece.at += len(block)
            self.size += len(block)
        if not piece.room:
            self._finish(piece)

    def _require(self, piece: Piece) -> None:
        if piece not in self._valid:
            raise Fenced

    def _finish(self, piece: Piece) -> None:
        # Other streams go on writing meanwhile; a copy of the descriptor outlives a close.
        with self._guard:
            self._require(piece)
            fd = self._file.copy()
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
        with self._guard:
            self._require(piece)
            self._valid.remove(piece)
            self._pieces.proven[piece.number] = piece.sha256.hexdigest()
            self._log.append(piece.number, self._pieces.proven[piece.number])

    def digests(
        self, algorithms: Sequence[str] = ALGORITHMS, read: Callable[[int], None] = lambda _: None
    ) -> dict[str, str]:
        """Return digests of the whole file.

        They were taken while it was written, if that was in one go and in order: else in one pass,
        which also proves every journalled piece.

        Args:
            algorithms: Which of ``md5`` and ``sha256``.
            read: Told how many bytes were read back, block by block.

        Raises:
            BadArchive: The disk no longer holds what was written; such pieces are dropped.
        """
        os.fsync(self._file.number)
        if self.must_be_read_back:
            self._read_back(algorithms, read)
        return self._digests.of(algorithms)

    def _read_back(self, algorithms: Sequence[str], read: Callable[[int], None]) -> None:
        def told(count: int) -> None:
            self._check()
            read(count)

        digests = Digests(algorithms)
        changed = digests.read_back(self._file.number, self.size, self._pieces, told)
        if changed:
            assert self.remote is not None
            self._pieces.disprove(changed)
            self._log.write(self.remote, self._pieces.piece_bytes, self._pieces.proven)
            raise changed_on_disk(self._path, changed)
        self._digests = digests

    def set_aside(self) -> Path:
        """Rename a complete file with wrong content, for a look at it, and begin with nothing."""
        aside = aside_of(self._path)
        with self._guard:
            self._file.require_open()
            self._path.replace(aside)
            old, self._file = self._file, Descriptor(self._path)
            old.close()
            past = replace(self.past, restarts=0, mismatches=self.past.mismatches + 1)
            self._drop(past.dropping(self.size))
        return aside

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
        """Drop the partial file's content and journal."""
        with self._guard:
            self._drop(Past())

    def _drop(self, past: Past) -> None:
        self._valid.clear()
        self.remote, self._pieces = None, Pieces(MIN_PIECE, None, {})
        self.size, self._digests = 0, Digests()
        self._file.truncate(0)
        self._log.drop(past)

    def forget(self) -> None:
        """Remove what belongs to the download after its file was published under its final name."""
        self._file.require_open()
        remove_leftovers(self._path)
