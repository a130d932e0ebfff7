"""Rows in the order of their keys, however many: sorted in runs on disk, and lined up.

S3 lists keys in the order of their UTF-8 bytes. So sorts Arrow, and so does Python compare text.
Source: Amazon S3 API Reference, ListObjectsV2 (general purpose buckets).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

RUN_ROWS = 500_000
"""Rows that are sorted in memory at once: some 60 MB of a name, a size and a digest."""

_GROUP_ROWS = 8192
Value = TypeVar("Value")


class SortedRows:
    """The rows of some tables in the order of their first column; can be read many times."""

    def __init__(self, tables: Iterable[pa.Table], scratch: Path) -> None:
        """Sort the tables in runs, which are written beside ``scratch``."""
        self._runs: list[Path] = []
        gathered: list[pa.Table] = []
        for table in tables:
            gathered.append(table)
            if sum(each.num_rows for each in gathered) >= RUN_ROWS:
                self._write(gathered, scratch)
                gathered = []
        if gathered:
            self._write(gathered, scratch)

    def _write(self, gathered: list[pa.Table], scratch: Path) -> None:
        table = pa.concat_tables(gathered)
        path = scratch.with_name(f"{scratch.name}.{len(self._runs)}")
        pq.write_table(table.sort_by(table.column_names[0]), path, row_group_size=_GROUP_ROWS)
        self._runs.append(path)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return heapq.merge(*(_rows(run) for run in self._runs), key=itemgetter(0))


def _rows(run: Path) -> Iterator[tuple[Any, ...]]:
    with pq.ParquetFile(run) as parquet:
        for batch in parquet.iter_batches(batch_size=_GROUP_ROWS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class LinedUp(Generic[Value]):
    """Looks ascending keys up in rows that ascend, too; memory does not grow with the rows."""

    def __init__(self, rows: Iterator[tuple[str, Value]]) -> None:
        self._rows = rows
        self._row = next(rows, None)

    def get(self, key: str) -> Value | None:
        """Return the value of a key that is no less than the last one that was asked for."""
        while self._row is not None and self._row[0] < key:
            self._row = next(self._rows, None)
        return self._row[1] if self._row is not None and self._row[0] == key else None
