"""A download under way: ``<archive>.part`` and the journal of what is proven to be in it.

The journal is lines of JSON: first what is being downloaded, then the SHA-256 of each finished
piece, written after the piece was flushed. Whatever lies beyond the last journalled piece is cut
off when the download resumes, so a crash or power cut costs at most one piece.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Self

from imagenet_etl.errors import BadArchive
from imagenet_etl.files import CHUNK_BYTES, fsync_file, fsync_folder, make_folders

_MAX_PIECE, _MIN_PIECE = 64 << 20, 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
JOURNAL_SCHEMA = 1


@dataclass(frozen=True)
class RemoteFile:
    """What identifies the file on the server.

    Attributes:
        url: The masked URL.
        validator: A strong ETag or a Last-Modified date, for ``If-Range``; empty for neither.
        total: Its length in bytes, None when the server does not say.
    """

    url: str
    validator: str
    total: int | None


class PartFile:
    """The partial file, opened for appending; a context manager.

    Args:
        path: The partial file; made with its folders when missing.
        check: Called before each write; raises when this process no longer owns the file.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._check = check
        self._journal = path.with_name(path.name + ".journal")
        self.remote: RemoteFile | None = None
        self.size = 0
        self._piece_bytes = _MAX_PIECE
        self._pieces: list[str] = []
        self._hashes = _hashes()
        self._hashed = 0
        self._piece = hashlib.sha256()
        make_folders(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self._fd)

    @property
    def path(self) -> Path:
        """The partial file's path."""
        return self._path

    def _load(self) -> None:
        journal = _read_journal(self._journal)
        if journal is None:
            os.ftruncate(self._fd, 0)
            return
        self.remote, self._piece_bytes, proven = journal
        self._pieces = proven[: os.fstat(self._fd).st_size // self._piece_bytes]
        self.size = len(self._pieces) * self._piece_bytes
        os.ftruncate(self._fd, self.size)
        self._write_journal()

    def _write_journal(self) -> None:
        """Replace the journal in one step: a crash or full disk here must not cost the pieces."""
        assert self.remote is not None
        head = {"schema_version": JOURNAL_SCHEMA, "piece_bytes": self._piece_bytes}
        lines = [json.dumps(head | asdict(self.remote)), *self._pieces]
        fresh = self._journal.with_name(self._journal.name + ".new")
        fresh.write_text("".join(line + "\n" for line in lines))
        fsync_file(fresh)
        fresh.replace(self._journal)
        fsync_folder(self._journal.parent)

    def start(self, remote: RemoteFile) -> None:
        """Begin the file anew; what was there is dropped."""
        self.remote = remote
        self.size = self._hashed = 0
        self._pieces = []
        self._hashes = _hashes()
        self._piece = hashlib.sha256()
        self._piece_bytes = max(_MIN_PIECE, min(_MAX_PIECE, (remote.total or 0) // 64))
        os.ftruncate(self._fd, 0)
        self._write_journal()

    def write(self, block: bytes) -> None:
        """Append bytes, journalling every piece that they complete."""
        self._check()
        try:
            self._append(memoryview(block))
        except OSError:
            # Beyond the last finished piece nothing is of use to the next run, and on a full disk
            # the locks need a little room to be given back.
            os.ftruncate(self._fd, len(self._pieces) * self._piece_bytes)
            raise

    def _append(self, view: memoryview) -> None:
        while view:
            room = self._piece_bytes - self.size % self._piece_bytes
            now, view = view[:room], view[room:]
            self._write_all(now)
            if self._hashed == self.size:
                for state in self._hashes.values():
                    state.update(now)
                self._hashed += len(now)
            self._piece.update(now)
            self.size += len(now)
            if self.size % self._piece_bytes == 0:
                self._finish_piece()

    def _write_all(self, view: memoryview) -> None:
        at = self.size
        while view:
            count = os.pwrite(self._fd, view, at)
            at, view = at + count, view[count:]

    def _finish_piece(self) -> None:
        os.fdatasync(self._fd)
        self._pieces.append(self._piece.hexdigest())
        self._piece = hashlib.sha256()
        with self._journal.open("a") as journal:
            journal.write(self._pieces[-1] + "\n")

    def digests(self) -> dict[str, str]:
        """Return ``md5`` and ``sha256`` of the whole file.

        They were taken while it was written, unless the download was resumed: then in one pass,
        which also proves every journalled piece.

        Raises:
            BadArchive: The disk no longer holds what was written; the part is dropped.
        """
        os.fsync(self._fd)
        if self._hashed != self.size:
            self._read_back()
        return {name: state.hexdigest() for name, state in self._hashes.items()}

    def _read_back(self) -> None:
        self._hashes = _hashes()
        for number, at in enumerate(range(0, self.size, self._piece_bytes)):
            piece = hashlib.sha256()
            end = min(at + self._piece_bytes, self.size)
            for start in range(at, end, CHUNK_BYTES):
                block = os.pread(self._fd, min(CHUNK_BYTES, end - start), start)
                for state in (*self._hashes.values(), piece):
                    state.update(block)
            proven = self._pieces[number : number + 1]
            if proven not in ([], [piece.hexdigest()]) or os.fstat(self._fd).st_size < end:
                self.discard()
                raise BadArchive(
                    f"{self._path}: piece {number} changed on disk after it was written",
                    remedy="Check the disk's health, then run again",
                )
        self._hashed = self.size

    def set_aside(self) -> Path:
        """Rename a complete file with wrong content, for a look at it, and begin with nothing."""
        aside = self._path.with_suffix(".mismatch")
        self._path.replace(aside)
        self._journal.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.remote, self.size = None, 0
        return aside

    def discard(self) -> None:
        """Drop the partial file's content and journal."""
        os.ftruncate(self._fd, 0)
        self._journal.unlink(missing_ok=True)
        self.remote, self.size = None, 0

    def forget(self) -> None:
        """Remove the journal after the file was published under its final name."""
        self._journal.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove a partial file and its journal, once the archive itself stands."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".journal").unlink(missing_ok=True)


def _read_journal(path: Path) -> tuple[RemoteFile, int, list[str]] | None:
    """Return what is downloaded, the piece size and the finished pieces; None if unreadable.

    Pieces end at the first line that is not a digest: it is torn, and so is all behind it.
    """
    try:
        first, *lines = path.read_text().splitlines()
        head = json.loads(first)
        if head.pop("schema_version") != JOURNAL_SCHEMA:
            return None
        piece_bytes = int(head.pop("piece_bytes"))
        remote = RemoteFile(**head)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not _MIN_PIECE <= piece_bytes <= _MAX_PIECE:
        return None
    return remote, piece_bytes, list(takewhile(_SHA256.fullmatch, lines))


def _hashes() -> dict[str, hashlib._Hash]:
    return {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
