"""What this data folder has found by HEAD to be in the bucket, by ETag.

S3 gives an object another ETag whenever its content is written anew. So an object whose size and
ETag in a listing are those noted here needs no second HEAD. The ledger only saves requests: without
it, every object is asked about.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from imagenet_etl.aws.s3_bucket import Listed, LocalFile
from imagenet_etl.errors import EtlError
from imagenet_etl.files import digest_of
from imagenet_etl.storage import Storage
from imagenet_etl.tables import batched, row_groups, versioned, write_batches

_TABLE = versioned(
    [("key", pa.string()), ("size", pa.int64()), ("sha256", pa.string()), ("etag", pa.string())]
)


class Seen(NamedTuple):
    """What a HEAD showed of an object: bytes, SHA-256 in hex, ETag without quotes."""

    size: int
    sha256: str
    etag: str


class Ledger:
    """The objects of one version, and of the archives, that were found to be there."""

    def __init__(self, storage: Storage, folder: str, uri: str) -> None:
        self._storage = storage
        self._folder = folder
        self._key = f"{folder}/{digest_of(uri)[:24]}.parquet"
        self._seen = self._read()
        self._is_new = False

    def vouches_for(self, file: LocalFile, listed: Listed) -> bool:
        """Return whether what is listed was found to be the file."""
        seen = self._seen.get(file.key)
        return seen == (file.size, file.sha256, listed.etag) and listed.size == file.size

    def note(self, file: LocalFile, etag: str) -> None:
        """Note what a HEAD has shown; threads may do so at once."""
        self._seen[file.key] = Seen(file.size, file.sha256, etag.strip('"'))
        self._is_new = True

    def keep(self) -> None:
        """Write what is known, if there is anything new."""
        if not self._is_new:
            return
        rows = ((key, *seen) for key, seen in sorted(self._seen.items()))
        path = self._storage.staging() / f"ledger-{digest_of(self._key)[:24]}.parquet"
        write_batches(path, _TABLE, batched(rows, _TABLE))
        self._storage.place(self._key, path)
        self._storage.flush(self._folder)

    def _read(self) -> dict[str, Seen]:
        if self._storage.stat(self._key) is None:
            return {}
        try:
            columns = ["key", "size", "sha256", "etag"]
            return {
                row[0]: Seen(*row[1:])
                for table in row_groups(self._storage, self._key, columns)
                for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
            }
        except EtlError:
            return {}  # damaged: everything is asked about again
