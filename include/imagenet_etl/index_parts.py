"""The index of an archive of class tars, made in parts that outlive a kill.

A part holds the rows of whole class tars, and where it ends depends on nothing but the archive. So
the parts of a run that was killed and those of the next one join to the same bytes.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from imagenet_etl.archives.layout import Sorter, Step
from imagenet_etl.archives.location import ArchiveRef, OpenArchive
from imagenet_etl.errors import LeaseLost, StillPending
from imagenet_etl.files import check_schema, digest_of, pretty_json
from imagenet_etl.index import INDEX
from imagenet_etl.progress import Meter
from imagenet_etl.receipts import Output
from imagenet_etl.stage import Place
from imagenet_etl.storage import Stat
from imagenet_etl.tables import ROWS_PER_BATCH, row_groups, write_batches

log = logging.getLogger(__name__)

PARTS = "parts"
PART_SCHEMA = 2
"""Schema 1 may hold rows of class tars that were not finished, so its parts are made again."""

PART_ROWS = ROWS_PER_BATCH
PART_BYTES = 32 << 30
"""A part ends with the first class tar that brings it to this many rows, or bytes of class tars."""


def regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables to such of about ``ROWS_PER_BATCH``, for row groups of a good size."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(item.num_rows for item in gathered) >= ROWS_PER_BATCH:
            yield pa.concat_tables(gathered).combine_chunks()
            gathered = []
    if any(item.num_rows for item in gathered):
        yield pa.concat_tables(gathered).combine_chunks()


@dataclass(frozen=True)
class _Part:
    """One finished part, as its JSON file tells.

    Attributes:
        first: How many class tars the parts before it cover.
        class_tars: How many it and those before it cover.
        images: How many rows it and those before it have.
        listing: Digest of what it was made from, and how; see ``IndexParts``.
        state: What the sorter had found at its end.
        output: Its table.
    """

    first: int
    class_tars: int
    images: int
    listing: str
    state: dict[str, Any]
    output: Output

    def to_json(self) -> bytes:
        return pretty_json({"schema_version": PART_SCHEMA, **asdict(self)})

    @staticmethod
    def from_json(data: bytes, key: str) -> _Part | None:
        """Return a part, or None for one of an older schema.

        Raises:
            SchemaTooNew: A newer version of this project wrote it.
        """
        fields = json.loads(data)
        schema = fields.pop("schema_version")
        check_schema(key, schema, PART_SCHEMA)
        if schema < PART_SCHEMA:
            return None
        return _Part(**fields | {"output": Output(**fields["output"])})


class IndexParts:
    """Makes the parts of one archive's index, or finds them.

    Args:
        place: The stage's place.
        ref: The archive.
        sorter: Its sorter, which has listed the archive's own members.
        meter: Counts the images.
    """

    def __init__(self, place: Place, ref: ArchiveRef, sorter: Sorter, meter: Meter) -> None:
        self._place = place
        self._name = ref.name
        self._sorter = sorter
        self._meter = meter
        self._parts: list[_Part] = []
        self._total = sorter.class_tars.num_rows
        self._ends = np.cumsum(sorter.class_tars["size"].to_numpy())
        # Whatever could change a row or a part's end: parts made from anything else are not used.
        self._listing = digest_of(
            {
                "archive": [ref.name, ref.size, ref.tag],
                "class_tars": _digest_of_table(sorter.class_tars),
                "own": sorter.state(),
                "part": [PART_ROWS, PART_BYTES],
            }
        )

    @property
    def _done(self) -> int:
        return self._parts[-1].class_tars if self._parts else 0

    @property
    def _images(self) -> int:
        return self._parts[-1].images if self._parts else 0

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows of all parts, by row group.

        Raises:
            LeaseLost: A part is gone: whoever made the same index beside this run was faster.
        """
        place = self._place
        for part in self._parts:
            try:
                yield from row_groups(place.build.storage, f"{place.base}/{part.output.name}")
            except FileNotFoundError as error:
                raise LeaseLost(
                    f"untar {self._name}: part {part.output.name} of the index is gone",
                    remedy="Another run has probably finished the same index: run again",
                ) from error

    def complete(self, archive: OpenArchive, deadline: float | None) -> None:
        """Find the parts that are there, and make the others.

        Args:
            archive: The open archive.
            deadline: When to stop after a part, on the monotonic clock; None for never.

        Raises:
            StillPending: The deadline is past; the next call goes on after the last part.
            ArchiveError: Something in the archive cannot be accepted.
        """
        self._find()
        if self._done == self._total:
            return
        with closing(self._sorter.images_inside(archive, self._done)) as steps:
            while self._done < self._total:
                self._make(archive, steps)
                is_over = deadline is not None and time.monotonic() >= deadline
                if is_over and self._done < self._total:
                    raise StillPending(
                        f"untar {self._name}: {self._done:,} of {self._total:,} class tars with "
                        f"{self._images:,} images are listed, and the rest follows"
                    )

    def _find(self) -> None:
        """Take over the parts of a run before, up to the first that is missing or another's."""
        storage = self._place.build.storage
        while self._done < self._total:
            key = self._key("json")
            data = storage.read(f"{self._place.base}/{key}")
            part = None if data is None else _Part.from_json(data, key)
            if part is None or (part.first, part.listing) != (self._done, self._listing):
                break
            output = part.output
            if storage.stat(f"{self._place.base}/{output.name}") != Stat(output.size, output.tag):
                break
            self._meter.add(part.images - self._images)
            self._parts.append(part)
        if self._parts:
            self._sorter.go_on_from(self._parts[-1].state)
            log.info(
                "untar %s: %s of %s class tars with %s images were listed before",
                self._name, f"{self._done:,}", f"{self._total:,}", f"{self._images:,}",
            )  # fmt: skip

    def _make(self, archive: OpenArchive, steps: Iterator[Step]) -> None:
        """Make the next part."""
        path, first, reached = self._place.scratch(), self._done, [self._total]
        rows = write_batches(path, INDEX, regrouped(self._of_one_part(steps, reached)))
        archive.check()
        self._place.build.check_owner()
        output = self._place.publish(self._key("parquet"), path)
        part = _Part(
            first, reached[0], self._images + rows, self._listing, self._sorter.state(), output
        )
        self._place.build.storage.put(f"{self._place.base}/{self._key('json')}", part.to_json())
        self._parts.append(part)

    def _of_one_part(self, steps: Iterator[Step], reached: list[int]) -> Iterator[pa.Table]:
        """Yield the tables of the next part, and say how many class tars are done after it."""
        rows, before = 0, int(self._ends[self._done - 1]) if self._done else 0
        for step in steps:
            for table in step.images:
                rows += table.num_rows
                self._meter.add(table.num_rows)
                yield table
            is_full = step.done and (
                rows >= PART_ROWS or int(self._ends[step.done - 1]) - before >= PART_BYTES
            )
            if step.whole and is_full:
                reached[0] = step.done
                return

    def _key(self, suffix: str) -> str:
        return f"{PARTS}/{self._name}/{len(self._parts):05d}.{suffix}"


def _digest_of_table(table: pa.Table) -> str:
    return digest_of([column.to_pylist() for column in table.columns])
