"""A download under way: ``<archive>.part`` and the journal of what is proven to be in it.

The file is written in pieces that may be finished in any order, so it may have holes. The journal
gets a piece's SHA-256 after the piece was flushed. Whatever else is in the file counts for nothing
when the download resumes, so a crash or power cut costs at most the pieces in flight.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from imagenet_etl.download.journal import (
    MAX_PIECE,
    MIN_PIECE,
    Journal,
    RemoteFile,
    append_piece,
    journal_of,
    read_journal,
    write_journal,
)
from imagenet_etl.download.pieces import Piece, Pieces
from imagenet_etl.download.read_back import changed_pieces
from imagenet_etl.errors import BadArchive
from imagenet_etl.files import make_folders

ALGORITHMS = ("md5", "sha256")


class Fenced(Exception):
    """The partial file was begun anew or closed: this stream has nothing to write any more."""


class PartFile:
    """The partial file; a context manager. Streams in several threads may write to it.

    Args:
        path: The partial file; made with its folders when missing.
        check: Called before each write; raises when this process no longer owns the file.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check = check
        self._journal = journal_of(path)
        self._guard = threading.Lock()
        self._valid: set[Piece] = set()
        self.remote: RemoteFile | None = None
        self.size = 0
        make_folders(path.parent)
        self._fd = self._opened()
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.fence()
        if kind is not None and issubclass(kind, OSError):
            # Beyond the last finished piece nothing is of use to the next run, and on a full disk
            # the locks need a little room to be given back.
            os.ftruncate(self._fd, self._pieces.proven_end)
        os.close(self._fd)

    @property
    def path(self) -> Path:
        """The partial file's path."""
        return self._path

    @property
    def proven_bytes(self) -> int:
        """How many bytes the next process will find; ``size`` counts those in flight as well."""
        return self._pieces.proven_bytes

    @property
    def whole_pieces(self) -> int:
        """How many pieces of full length the file has; 0 while its length is not known."""
        return self._pieces.whole_count

    @property
    def missing_pieces(self) -> int:
        """How many pieces are not proven yet, of a file whose length is known."""
        return self._pieces.count - len(self._pieces.proven)

    @property
    def piece_bytes(self) -> int:
        """Length of a piece."""
        return self._pieces.piece_bytes

    @property
    def is_complete(self) -> bool:
        """Whether every byte is there."""
        return self.remote is not None and self.size == self.remote.total

    @property
    def must_be_read_back(self) -> bool:
        """Whether the digests were not taken while the file was written."""
        return self._hashed != self.size

    def _opened(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _load(self) -> None:
        journal = read_journal(self._journal)
        if journal is None:
            self.discard()
            return
        there = os.fstat(self._fd).st_size
        pieces = Pieces(journal.piece_bytes, journal.remote.total, {})
        pieces.proven = {n: d for n, d in journal.proven.items() if pieces.end_of(n) <= there}
        self._begin(journal.remote, pieces)

    def start(self, remote: RemoteFile) -> None:
        """Begin the file anew; what was there is dropped."""
        piece_bytes = max(MIN_PIECE, min(MAX_PIECE, (remote.total or 0) // 64))
        self._begin(remote, Pieces(piece_bytes, remote.total, {}))

    def _begin(self, remote: RemoteFile, pieces: Pieces) -> None:
        with self._guard:
            self._valid.clear()
            self.remote, self._pieces = remote, pieces
            self.size = pieces.proven_bytes
            self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ALGORITHMS}
            self._hashed = 0
            os.ftruncate(self._fd, pieces.proven_end)
            self._write_journal()

    def _write_journal(self) -> None:
        assert self.remote is not None
        proven = self._pieces.proven
        write_journal(self._journal, Journal(self.remote, self._pieces.piece_bytes, proven))

    def learn_total(self, total: int, piece: Piece) -> None:
        """Note the length that the server did not tell at first; ``piece`` may be the last one."""
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
            self._write_all(block, piece.at)
            if self._hashed == piece.at:
                for state in self._hashes.values():
                    state.update(block)
                self._hashed += len(block)
            piece.sha256.update(block)
            piece.at += len(block)
            self.size += len(block)
        if not piece.room:
            self._finish(piece)

    def _require(self, piece: Piece) -> None:
        if piece not in self._valid:
            raise Fenced

    def _write_all(self, view: memoryview, at: int) -> None:
        while view:
            count = os.pwrite(self._fd, view, at)
            at, view = at + count, view[count:]

    def _finish(self, piece: Piece) -> None:
        # Other streams go on writing meanwhile; a copy of the descriptor outlives a close.
        with self._guard:
            self._require(piece)
            fd = os.dup(self._fd)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
        with self._guard:
            self._require(piece)
            self._valid.remove(piece)
            self._pieces.proven[piece.number] = piece.sha256.hexdigest()
            append_piece(self._journal, piece.number, self._pieces.proven[piece.number])

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
        os.fsync(self._fd)
        if self.must_be_read_back:
            self._read_back(algorithms, read)
        return {name: self._hashes[name].hexdigest() for name in algorithms}

    def _read_back(self, algorithms: Sequence[str], read: Callable[[int], None]) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}

        def told(count: int) -> None:
            self._check()
            read(count)

        hashes = list(self._hashes.values())
        changed = changed_pieces(self._fd, self.size, self._pieces, hashes, told)
        if changed:
            self._pieces.proven = {
                number: sha256
                for number, sha256 in self._pieces.proven.items()
                if number not in changed
            }
            self._write_journal()
            raise BadArchive(
                f"{self._path}: piece {changed[0]} changed on disk after it was written",
                found=f"{len(changed):,} such pieces",
                remedy="Check the disk's health, then run again: it fetches these pieces anew",
            )
        self._hashed = self.size

    def set_aside(self) -> Path:
        """Rename a complete file with wrong content, for a look at it, and begin with nothing."""
        aside = aside_of(self._path)
        self._path.replace(aside)
        with self._guard:
            os.close(self._fd)
            self._fd = self._opened()
        self.discard()
        return aside

    def discard(self) -> None:
        """Drop the partial file's content and journal."""
        with self._guard:
            self._valid.clear()
            self.remote, self._pieces = None, Pieces(MIN_PIECE, None, {})
            self.size = self._hashed = 0
            os.ftruncate(self._fd, 0)
            self._journal.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the journal after the file was published under its final name."""
        self._journal.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """Return where a partial file with wrong content is put."""
    return path.with_suffix(".mismatch")


def remove_leftovers(path: Path) -> None:
    """Remove a partial file and its journal, once the archive itself stands."""
    path.unlink(missing_ok=True)
    journal_of(path).unlink(missing_ok=True)
