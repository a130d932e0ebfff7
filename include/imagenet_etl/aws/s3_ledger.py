"""What this data folder has found by HEAD to be in the bucket, by ETag.

S3 gives an object another ETag whenever its content is written anew. So an object whose size and
ETag in a listing are those noted here needs no second HEAD. The ledger only saves requests: without
it, every object is asked about. It is a folder of Parquet tables, in the order of the keys: what a
plan has found, and a table for each batch that was sent since.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import pyarrow as pa

from imagenet_etl.aws.s3_bucket import Listed, LocalFile
from imagenet_etl.errors import EtlError
from imagenet_etl.files import digest_of
from imagenet_etl.storage import Storage
from imagenet_etl.tables import batched, open_parquet, row_groups, versioned, write_batches

_TABLE = versioned(
    [("key", pa.string()), ("size", pa.int64()), ("sha256", pa.string()), ("etag", pa.string())]
)
_PLANNED = "planned.parquet"


class Seen(NamedTuple):
    """What a HEAD showed of an object: bytes, SHA-256 in hex, ETag without quotes."""

    size: int
    sha256: str
    etag: str

    def is_of(self, file: LocalFile, listed: Listed) -> bool:
        """Return whether what is listed was found to be the file."""
        return self == (file.size, file.sha256, listed.etag) and listed.size == file.size


Row = tuple[str, Seen]


def seen(file: LocalFile, etag: str) -> Row:
    """Return the row of a file that a HEAD has shown."""
    return file.key, Seen(file.size, file.sha256, etag.strip('"'))


class Ledger:
    """The objects of one part of a backup that were found to be there."""

    def __init__(self, storage: Storage, folder: str) -> None:
        """Open a ledger; its key prefix need not exist."""
        self._storage = storage
        self._folder = folder
        self._planned = storage.staging() / f"ledger-{digest_of(folder)[:24]}.parquet"

    def __iter__(self) -> Iterator[Row]:
        """Yield what is noted, in the order of the keys."""
        planned, *sent = [f"{self._folder}/{_PLANNED}", *self._sent()]
        return heapq.merge(self._rows(planned), chain.from_iterable(map(self._rows, sent)))

    def plan(self, rows: Iterable[Row]) -> None:
        """Write anew what is known, in the order of the keys; ``keep`` puts it in its place."""
        write_batches(self._planned, _TABLE, batched(((k, *row) for k, row in rows), _TABLE))

    def keep(self) -> None:
        """Replace what was known before the last plan by what the plan has found."""
        if not self._planned.exists():
            return
        sent = self._sent()
        self._storage.place(f"{self._folder}/{_PLANNED}", self._planned)
        for key in sent:
            self._storage.remove(key)
        self._storage.flush(self._folder)

    def add(self, rows: list[Row]) -> None:
        """Note objects whose keys are greater than those of all that were added since the plan."""
        if not rows:
            return
        path = self._planned.with_suffix(".sent")
        write_batches(path, _TABLE, batched(((key, *row) for key, row in sorted(rows)), _TABLE))
        self._storage.place(f"{self._folder}/sent-{len(self._sent()):06d}.parquet", path)
        self._storage.flush(self._folder)

    def count(self) -> int:
        """Return how many objects are noted."""
        return sum(self._count(key) for key in (f"{self._folder}/{_PLANNED}", *self._sent()))

    def _sent(self) -> list[str]:
        keys = (key for key, _ in self._storage.list(self._folder))
        return sorted(key for key in keys if key.rpartition("/")[2].startswith("sent-"))

    def _count(self, key: str) -> int:
        if self._storage.stat(key) is None:
            return 0
        try:
            with open_parquet(self._storage, key) as table:
                return int(table.metadata.num_rows)
        except EtlError:
            return 0

    def _rows(self, key: str) -> Iterator[Row]:
        if self._storage.stat(key) is None:
            return
        try:
            for table in row_groups(self._storage, key, _TABLE.names):
                for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    yield row[0], Seen(*row[1:])
        except (EtlError, pa.ArrowException, OSError):
            return  # damaged: the rest is asked about again
