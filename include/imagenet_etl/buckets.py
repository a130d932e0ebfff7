"""Tables sorted into numbered heaps that are larger than memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_IN_MEMORY = 192 << 20


class Buckets:
    """Heaps of rows: in memory while they are small, else in files of their own.

    Args:
        schema: Of the rows.
        scratch: Gives a path for a file, in a folder that somebody else sweeps.
        max_bytes: How much is held in memory; about 200 MB unless it is given.
    """

    def __init__(
        self, schema: pa.Schema, scratch: Callable[[], Path], max_bytes: int | None = None
    ) -> None:
        self._schema = schema
        self._scratch = scratch
        self._max_bytes = _IN_MEMORY if max_bytes is None else max_bytes
        self._held: dict[int, list[pa.Table]] = {}
        self._held_bytes = 0
        self._files: dict[int, tuple[Path, pa.ipc.RecordBatchStreamWriter]] = {}

    def add(self, table: pa.Table, numbers: npt.NDArray[np.int64]) -> None:
        """Put each row on the heap that its number tells."""
        if not len(numbers):
            return
        if (numbers[1:] < numbers[:-1]).any():
            order = np.argsort(numbers, kind="stable")
            table, numbers = table.take(pa.array(order)), numbers[order]
        starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            piece = table.slice(start, end - start)
            self._held.setdefault(int(numbers[start]), []).append(piece)
        self._held_bytes += table.nbytes
        if self._held_bytes > self._max_bytes:
            self._spill()

    def _spill(self) -> None:
        for number, tables in self._held.items():
            if number not in self._files:
                self._files[number] = self._new_file()
            self._files[number][1].write_table(pa.concat_tables(tables).combine_chunks())
        self._held.clear()
        self._held_bytes = 0

    def _new_file(self) -> tuple[Path, pa.ipc.RecordBatchStreamWriter]:
        path = self._scratch()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        return path, pa.ipc.new_stream(str(path), self._schema, options=options)

    def take(self, number: int) -> pa.Table:
        """Return the rows of a heap, in the order in which they came, and forget them."""
        tables = self._held.pop(number, [])
        self._held_bytes -= sum(table.nbytes for table in tables)
        if number in self._files:
            path, writer = self._files.pop(number)
            writer.close()
            with pa.OSFile(str(path)) as file:
                tables.insert(0, pa.ipc.open_stream(file).read_all())
            path.unlink()
        return pa.concat_tables(tables).combine_chunks() if tables else self._schema.empty_table()
