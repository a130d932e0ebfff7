"""Parquet tables: written once, read whole or by row group, from a folder or a bucket."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagenet_etl.errors import DatasetDamaged
from imagenet_etl.files import check_schema
from imagenet_etl.storage import ReadAt, Storage

_VERSION_KEY = b"imagenet_etl.schema_version"
TABLE_SCHEMA = 1
ROWS_PER_BATCH = 65_536
_SMALL_BYTES = 4 << 20
"""A table of this size comes from a bucket as a whole."""


def versioned(fields: list[tuple[str, pa.DataType]]) -> pa.Schema:
    """Return an Arrow schema that carries this project's schema version."""
    return pa.schema(fields, metadata={_VERSION_KEY: str(TABLE_SCHEMA).encode()})


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.Table]) -> int:
    """Write each batch as one row group; return the number of rows."""
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(batch, row_group_size=max(1, batch.num_rows))
            rows += batch.num_rows
    return rows


def batched(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Gather rows into tables of at most ``ROWS_PER_BATCH``, in the order of ``schema``."""
    columns: list[list[Any]] = [[] for _ in schema]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        if len(columns[0]) == ROWS_PER_BATCH:
            yield pa.table(columns, schema=schema)
            columns = [[] for _ in schema]
    if columns[0]:
        yield pa.table(columns, schema=schema)


@contextmanager
def open_parquet(storage: Storage, key: str) -> Iterator[pq.ParquetFile]:
    """Open a table for reading by row group.

    Raises:
        FileNotFoundError: There is no such table.
        DatasetDamaged: It is no table, or was cut off.
        SchemaTooNew: A newer version of this project wrote it.
    """
    with storage.open(key) as file:
        try:
            # Where each read is a request, the columns of a row group come with one.
            parquet = pq.ParquetFile(_source(storage, file), pre_buffer=not storage.on_disk)
        except pa.ArrowInvalid as error:
            raise DatasetDamaged(
                f"{storage.url}/{key} is damaged",
                expected="a Parquet table",
                found=error,
                remedy="Restore it from the backup, or remove its folder and run again",
            ) from error
        metadata = parquet.schema_arrow.metadata or {}
        check_schema(key, int(metadata.get(_VERSION_KEY, b"0")), TABLE_SCHEMA)
        yield parquet


def _source(storage: Storage, file: ReadAt) -> Any:
    if storage.on_disk or file.stat.size > _SMALL_BYTES:
        return pa.PythonFile(_ReadAtFile(file), mode="r")
    return pa.BufferReader(file.read_at(0, file.stat.size))


def read_table(storage: Storage, key: str, columns: list[str] | None = None) -> pa.Table:
    """Read a whole table, or some of its columns."""
    with open_parquet(storage, key) as parquet:
        return parquet.read(columns=columns)


def row_groups(storage: Storage, key: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield a table, or some of its columns, by row group, so that memory stays bounded."""
    with open_parquet(storage, key) as parquet:
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, columns=columns)


class _ReadAtFile(io.RawIOBase):
    """The file object that Arrow wants, over an object that is read by position."""

    def __init__(self, file: ReadAt) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.stat.size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._file.stat.size - self._at)
        data = self._file.read_at(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data
