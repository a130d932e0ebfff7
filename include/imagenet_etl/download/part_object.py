"""A download under way straight into a bucket: each piece is a part of one multipart upload.

A piece is gathered in memory and sent when it is whole, so memory is one piece a stream: 5 MiB to
32 MiB, more only where 10,000 parts would not do (134 MB for fall11's 1.3 TB). Nothing touches a
disk. A crash or the end of a slice costs the pieces in flight, for S3 keeps the others and tells of
them. The object of all parts has a name of its own until its content was checked; a copy inside the
bucket, which fails if the name is taken, gives it the archive's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Self

from imagenet_etl.aws.s3_spans import part_size
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.download.descriptor import Fenced
from imagenet_etl.download.hashing import hashed
from imagenet_etl.download.journal import Past, RemoteFile
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.pieces import Piece, Pieces
from imagenet_etl.download.read_back import ALGORITHMS
from imagenet_etl.download.relay_journal import Relayed, RelayLog
from imagenet_etl.download.staged_object import BORN_OF, PartsLost, StagedObject
from imagenet_etl.storage import ReadAt, Stat, Storage

LEAST_PART, MOST_PART, UNKNOWN_PART = 5 << 20, 32 << 20, 64 << 20
"""S3's least, what is enough for speed, and what is taken for a file of unknown length."""


class PartObject(Partial):
    """The object that a download is gathered in; a context manager.

    Args:
        storage: The data folder, in a bucket.
        client: A boto3 client for that bucket.
        key: The archive's key.
        check: Called before each write; raises when this process no longer owns the download.
        accept: Called with what the source has, before anything of it is fetched; may raise.
    """

    def __init__(
        self,
        storage: Storage,
        client: Any,
        key: str,
        check: Callable[[], None],
        accept: Callable[[RemoteFile], None] = lambda _: None,
    ) -> None:
        self._storage, self._accept = storage, accept
        self.key = f"{key}.part"
        bucket, self._staged_key = parse_s3_uri(f"{storage.url}/{self.key}")
        self._staged = StagedObject(client, bucket, self._staged_key)
        self._final = self._staged_key.removesuffix(".part")
        self._log = RelayLog(storage, f"{self.key}.journal")
        super().__init__(self._log, check)
        self._buffers: dict[int, bytearray] = {}
        self._token = ""
        self._stat: Stat | None = None
        self._closed = False
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._valid.clear()
            self._buffers.clear()
            self._closed = True

    @property
    def is_complete(self) -> bool:
        """Whether S3 has every byte."""
        total = self.remote.total if self.remote is not None else None
        return total is not None and self._pieces.missing_count == 0

    def _load(self) -> None:
        noted = self._log.read()
        if noted is None or noted.remote is None:
            return
        self._token = noted.token
        self._stat = self._staged.stat_of(self._staged_key, self._token)
        pieces = Pieces(noted.piece_bytes, noted.remote.total, {})
        if self._stat is None:
            pieces.proven = self._held(noted, pieces)
            if not pieces.proven:
                self._drop(self.past)
                return
        else:
            pieces.total = self._stat.size
            pieces.proven = dict.fromkeys(range(pieces.count), "")
        self.remote, self._pieces = noted.remote, pieces
        self.size = pieces.proven_bytes

    def _held(self, noted: Relayed, pieces: Pieces) -> dict[int, str]:
        """Return which pieces S3 has in full."""
        held = self._staged.go_on(noted.upload)
        lengths = {n: pieces.end_of(n - 1) - (n - 1) * pieces.piece_bytes for n in held}
        return {n - 1: "" for n, size in sorted(held.items()) if size == lengths[n]}

    def _piece_bytes(self, total: int | None) -> int:
        if total is None:
            return UNKNOWN_PART
        return part_size(total, max(LEAST_PART, min(MOST_PART, total // 64)))

    def _begin(self, remote: RemoteFile, pieces: Pieces) -> None:
        self._accept(remote)
        self._clear()
        self._token = secrets.token_hex(16)
        self._staged.begin(self._token)
        self._log.begin(remote, pieces.piece_bytes, self._staged.upload, self._token)
        self.remote, self._pieces = remote, pieces

    def _clear(self) -> None:
        """Forget what there is, here and in the bucket, but for the journal."""
        self._reset()
        self._buffers.clear()
        self._staged.drop()
        if self._stat is not None:
            self._storage.delete(self.key)
        self._stat, self._token = None, ""

    def _drop(self, past: Past) -> None:
        self._clear()
        self._log.drop(past)

    def _require_open(self) -> None:
        if self._closed:
            raise Fenced

    def write(self, piece: Piece, block: memoryview) -> None:
        """Gather bytes of a piece; the last ones send it, in this stream's own time."""
        self._check()
        with self._guard:
            self._require(piece)
            self._buffers.setdefault(piece.number, bytearray()).extend(block)
            self._digests.wrote(piece.at, block)
            piece.at += len(block)
            self.size += len(block)
            data = None if piece.room else self._buffers.pop(piece.number)
            upload = self._staged.upload
        if data is not None:
            self._send(piece, upload, data)

    def _send(self, piece: Piece, upload: str, data: bytearray) -> None:
        """Send a whole piece to the upload that it was gathered for."""
        try:
            part = self._staged.send(upload, piece.number + 1, data)
        except PartsLost:
            self._check()  # a successor may have aborted it, and what is noted is that one's then
            with self._guard:
                self._require(piece)  # else another stream has begun anew, and aborted that upload
                self._drop(self.past.dropping(self.size))
            raise
        with self._guard:
            self._require(piece)
            self._valid.remove(piece)
            self._staged.keep(part)
            self._pieces.proven[piece.number] = part["ETag"]

    def digests(
        self, algorithms: Sequence[str] = ALGORITHMS, read: Callable[[int], None] = lambda _: None
    ) -> dict[str, str]:
        """Return digests of the whole, making the object of its parts first.

        Raises:
            CloudUnavailable: S3 has lost parts; the next process begins anew.
        """
        self._make_whole()
        if self.must_be_read_back:
            with self._storage.open(self.key) as file:
                found = self._hashed(file, algorithms, read)
        else:
            found = self._digests.of(algorithms)
        self._log.verified(self.remote, found)
        return found

    def _hashed(
        self, file: ReadAt, algorithms: Sequence[str], read: Callable[[int], None]
    ) -> dict[str, str]:
        def told(count: int) -> None:
            self._check()
            read(count)

        return hashed(file, f"{self._storage.url}/{self.key}", algorithms, told)

    def _make_whole(self) -> None:
        if self._stat is not None:
            return
        self._check()
        try:
            for number, tail in sorted(self._buffers.items()):  # where nobody told the length
                self._staged.keep(self._staged.send(self._staged.upload, number + 1, tail))
            self._buffers.clear()
            self._stat = self._staged.complete(self._token)
        except PartsLost:
            self._check()
            self.empty()
            raise

    def set_aside(self) -> None:
        """Remove wrong content and begin with nothing: in a bucket it would be paid for."""
        with self._guard:
            self._drop(self._mismatched())

    def published(self) -> tuple[Stat, Relayed] | None:
        """Return the archive and what is noted if a crash came between its name and its note."""
        noted = self._log.read()
        if noted is None or not noted.digests:
            return None
        stat = self._staged.stat_of(self._final, noted.token)
        return None if stat is None else (stat, noted)

    def publish(self, sha256: str) -> None:
        """Give what was verified the archive's key, which must be free.

        Raises:
            KeyExists: It is taken.
        """
        assert self._stat is not None
        self._check()
        self._staged.copy_to(self._final, self._stat, {BORN_OF: self._token, "sha256": sha256})

    def forget(self) -> None:
        """Remove what belongs to the download once the archive has its name and its note."""
        self.discard()
