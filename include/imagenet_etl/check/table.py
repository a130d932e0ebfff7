"""``records.parquet`` by row group, so that memory does not grow with the number of records."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagenet_etl.check.tree import Tree
from imagenet_etl.records.formats import FORMATS, LOOSE_FORMATS, Format
from imagenet_etl.records.table import RECORDS

NAME = "records.parquet"
_PLACE = ["output", "split", "shard"]
_ROW = ["key", "label", "offset", "bytes", "sha256"]
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one record; see ``RECORDS``."""

    key: int
    label: int
    offset: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class RecordFile:
    """A shard or database, and the row groups that tell of its records in their order.

    Attributes:
        item: Its format.
        split: Its split.
        shard: Its name below the split's folder.
        groups: Numbers of row groups; each is a segment that was packed in one go.
    """

    item: Format
    split: str
    shard: str
    groups: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name below the version's folder."""
        return self.item.path(self.split, self.shard)


class RecordTable:
    """The open table; threads may share it.

    Attributes:
        counts: Number of records of each output.
        files: Every shard and database, in the order of their first records.

    Raises:
        DatasetDamaged: It lacks a column, or names an unknown output.
    """

    def __init__(self, tree: Tree, parquet: pq.ParquetFile) -> None:
        self._tree = tree
        self._parquet = parquet
        self._guard = threading.Lock()
        self._check_columns()
        self.counts: Counter[str] = Counter()
        groups: dict[tuple[str, str, str], list[int]] = {}
        for group in range(parquet.num_row_groups):
            for place, count in self._places(group):
                self.counts[place[0]] += count
                if place[0] not in LOOSE_FORMATS:
                    groups.setdefault(place, []).append(group)
        self.files = [
            RecordFile(FORMATS[output], split, shard, tuple(numbers))
            for (output, split, shard), numbers in groups.items()
        ]

    def _check_columns(self) -> None:
        schema = self._parquet.schema_arrow
        for name in (*_PLACE, *_ROW):
            at = schema.get_field_index(name)
            if at < 0 or schema.field(at).type != RECORDS.field(name).type:
                expected = f"a column {name} of {RECORDS.field(name).type}"
                raise self._tree.damaged(NAME, expected, schema.names)

    def _places(self, group: int) -> list[tuple[tuple[str, str, str], int]]:
        """Return the files that a row group has records in, in order, with their numbers."""
        table = self._read(group, _PLACE)
        places = []
        for output in pc.unique(table["output"]).to_pylist():
            if output not in FORMATS:
                raise self._tree.damaged(NAME, f"outputs of {', '.join(FORMATS)}", repr(output))
            rows = table.filter(pc.equal(table["output"], output))
            if output in LOOSE_FORMATS:  # each row has a file of its own
                places.append(((output, "", ""), rows.num_rows))
                continue
            counted = rows.group_by(["split", "shard"], use_threads=False)
            for row in counted.aggregate([([], "count_all")]).to_pylist():
                places.append(((output, row["split"], row["shard"]), row["count_all"]))
        return places

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        with self._guard:
            table = self._parquet.read_row_group(group, columns=columns)
        if any(column.null_count for column in table.columns):
            raise self._tree.damaged(NAME, "a value in every field", f"none in row group {group}")
        return table

    def rows(self, of: RecordFile) -> Iterator[Row]:
        """Yield the rows of a file's records."""
        for group in of.groups:
            table = self._read(group, _PLACE + _ROW)
            for name, value in zip(_PLACE, (of.item.name, of.split, of.shard), strict=True):
                table = table.filter(pc.equal(table[name], value))
            for start in range(0, table.num_rows, _BATCH):
                piece = table.slice(start, _BATCH)
                for fields in zip(*(piece[name].to_pylist() for name in _ROW), strict=True):
                    yield Row(*fields)


def with_ends(rows: Iterator[Row], end: int) -> Iterator[tuple[Row, int]]:
    """Yield each row and the byte at which its record ends: the next one's start, at last ``end``.

    Args:
        rows: The rows of a shard.
        end: Where its last record ends.
    """
    before = next(rows, None)
    for row in rows:
        assert before is not None
        yield before, row.offset
        before = row
    if before is not None:
        yield before, end
