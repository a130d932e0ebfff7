"""A download under way: ``<archive>.part`` and the journal of what is proven to be in it.

The journal is lines of JSON: first what is being downloaded, then the SHA-256 of each finished
piece, written after the piece was flushed. Whatever lies beyond the last journalled piece is cut
off when the download resumes, so a crash or power cut costs at most one piece.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from imagenet_etl.errors import BadArchive
from imagenet_etl.files import CHUNK_BYTES, make_folders

_MAX_PIECE, _MIN_PIECE = 64 << 20, 1 << 20
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
    """The partial file, opened for appending; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        try:
            lines = self._journal.read_text().splitlines()
            head = json.loads(lines[0])
            usable = head.pop("schema_version") == JOURNAL_SCHEMA
        except (FileNotFoundError, IndexError, ValueError, KeyError):
            usable = False
        if not usable:
            os.ftruncate(self._fd, 0)
            return
        self._piece_bytes = head.pop("piece_bytes")
        self.remote = RemoteFile(**head)
        # A torn last line is a piece that was not finished.
        self._pieces = [line for line in lines[1:] if len(line) == 64]
        proven = len(self._pieces) * self._piece_bytes
        on_disk = os.fstat(self._fd).st_size
        self._pieces = self._pieces[: on_disk // self._piece_bytes]
        self.size = min(proven, len(self._pieces) * self._piece_bytes)
        os.ftruncate(self._fd, self.size)
        self._write_journal()

    def _write_journal(self) -> None:
        assert self.remote is not None
        head = {"schema_version": JOURNAL_SCHEMA, "piece_bytes": self._piece_bytes}
        lines = [json.dumps(head | asdict(self.remote)), *self._pieces]
        self._journal.write_text("".join(line + "\n" for line in lines))

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
        view = memoryview(block)
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
            if number < len(self._pieces) and piece.hexdigest() != self._pieces[number]:
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


def _hashes() -> dict[str, hashlib._Hash]:
    return {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
