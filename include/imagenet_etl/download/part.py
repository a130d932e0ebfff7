"""A download under way: ``<archive>.part`` and the journal of what is proven to be in it.

The file is written in pieces that may be finished in any order, so it may have holes. The journal
gets a piece's SHA-256 after the piece was flushed. Whatever else is in the file counts for nothing
when the download resumes, so a crash or power cut costs at most the pieces in flight.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from imagenet_etl.download.descriptor import Descriptor, Fenced
from imagenet_etl.download.journal import Logbook, Past, RemoteFile
from imagenet_etl.download.leftovers import aside_of, remove_leftovers
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.pieces import Piece, Pieces
from imagenet_etl.download.read_back import ALGORITHMS, Digests, changed_on_disk
from imagenet_etl.files import make_folders

__all__ = ["Fenced", "PartFile", "remove_leftovers"]


class PartFile(Partial):
    """The partial file; a context manager. Streams in several threads may write to it.

    Whoever comes when it is closed, or with a piece from before it was begun anew, gets ``Fenced``.

    Args:
        path: The partial file; made with its folders when missing.
        check: Called before each write; raises when this process no longer owns the file.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self._path, self.folder = path, path.parent
        self._log = Logbook(path)
        super().__init__(self._log, check)
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

    def _load(self) -> None:
        journal = self._log.read()
        if journal is None:
            self.discard()
            return
        there = self._file.size
        pieces = Pieces(journal.piece_bytes, journal.remote.total, {})
        pieces.proven = {n: d for n, d in journal.proven.items() if pieces.end_of(n) <= there}
        self._begin(journal.remote, pieces)

    def _begin(self, remote: RemoteFile, pieces: Pieces) -> None:
        self._valid.clear()
        self.remote, self._pieces = remote, pieces
        self.size = pieces.proven_bytes
        self._digests = Digests()
        self._file.truncate(pieces.proven_end)
        self._log.write(remote, pieces.piece_bytes, pieces.proven)

    def _require_open(self) -> None:
        self._file.require_open()

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
            self._drop(self._mismatched())
        return aside

    def _drop(self, past: Past) -> None:
        self._reset()
        self._file.truncate(0)
        self._log.drop(past)

    def forget(self) -> None:
        """Remove what belongs to the download after its file was published under its final name."""
        self._file.require_open()
        remove_leftovers(self._path)
