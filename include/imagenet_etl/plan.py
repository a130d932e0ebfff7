"""Stage ``plan_shards``: which record goes where, decided on the table alone.

The index may be larger than memory. So it is read through once, its rows are put on heaps by
class, each heap is sorted and numbered, and its rows are put on heaps by segment, each of which is
sorted and written. Whatever the number of images, a heap or two of them is in memory, and a few
numbers an image.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.buckets import Buckets
from imagenet_etl.errors import ConfigError, EtlError
from imagenet_etl.files import pretty_json
from imagenet_etl.index import PLAN
from imagenet_etl.planned_rows import PLANNED_ROWS, Numbers, PlannedRows, heaps_of
from imagenet_etl.preflight.report import reading_lines
from imagenet_etl.progress import Meter, metered
from imagenet_etl.selection import Segment
from imagenet_etl.shards import Span, Split, spans_of
from imagenet_etl.shuffle import positions_of
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import write_batches

PLAN_SETTINGS = ("shards", "val_shards", "shard_mib", "shuffle", "seed", "train_ratio",
                 "test_ratio")  # fmt: skip
"""The settings that plan_shards reads."""

log = logging.getLogger(__name__)
_HEAP_ROWS = 1 << 18
_WORTH_MEASURING = 10 << 30
"""Bytes; what is smaller is read within a minute or two in any order."""
_PLACED = pa.schema(
    [*PLANNED_ROWS, ("key", pa.int64()), ("segment", pa.int32()), ("at", pa.int64())]
)


def plan_shards(place: Place) -> Result:
    """Write ``plan.parquet`` (one row group a segment) and ``segments.json``.

    The facts of the receipt hold the ``classes`` in label order, and ``planned``: how many images
    each has, by split.

    Raises:
        CountMismatch: A labelled split holds no image.
        ConfigError: The ratios make a split that the dataset has already.
    """
    rows = PlannedRows(place)
    counted = rows.counted()
    splits = [Split(name, counted.images(name), counted.bytes[name]) for name in rows.splits]
    planner = _Planner(place, splits)
    _tell_hours(place, splits)
    path = place.scratch()
    with metered("plan_shards", 2 * sum(split.records for split in splits), "images") as meter:
        write_batches(path, PLAN, planner.segments(rows, counted.heaps(_HEAP_ROWS), meter))
    segments = [span.segment for span in planner.spans]
    listing = place.scratch()
    listing.write_bytes(pretty_json([asdict(segment) for segment in segments]))
    images = Counter[str]()
    for segment in segments:
        images[segment.split] += segment.records
    assert images.total() == sum(split.records for split in splits)  # no image is lost here
    return Result(
        counts={
            **{f"{split}_images": count for split, count in images.items()},
            "segments": len(segments),
            **counted.left_out,
        },
        outputs=(place.publish("plan.parquet", path), place.publish("segments.json", listing)),
        facts={
            "classes": rows.classes,
            "planned": {name: dict(sorted(planner.planned[name].items())) for name in images},
        },
    )


def _tell_hours(place: Place, splits: list[Split]) -> None:
    """Log how long the archive's disk will take with each order, where that matters."""
    stored = sum(split.bytes for split in splits)
    if stored < _WORTH_MEASURING:
        return
    try:
        lines = reading_lines(place.build, sum(split.records for split in splits), stored)
    except (EtlError, OSError) as error:
        lines = [f"how fast the archive's disk reads is not known: {error}"]
    for line in lines:
        log.info("plan_shards: %s", line)


class _Planner:
    """Numbers the rows and puts each where it is packed.

    Attributes:
        spans: The segments; their sizes are known when all have been yielded.
        planned: Images by split and wnid.
    """

    def __init__(self, place: Place, splits: list[Split]) -> None:
        settings = place.build.settings
        self._scratch = place.scratch
        self._names = [split.name for split in splits]
        self.spans: list[Span] = []
        for split in splits:
            self.spans += spans_of(split, settings, len(self.spans))
        _check_one_origin(self.spans)
        self.planned: dict[str, Counter[str]] = {}
        wnids = sorted(entry["wnid"] for entry in place.done["filter_classes"].facts["classes"])
        label = {e["wnid"]: n for n, e in enumerate(place.done["filter_classes"].facts["classes"])}
        self._labels = np.array([label[wnid] for wnid in wnids], np.int32)
        self._positions = {
            split.name: positions_of(
                split.records, settings.shuffle, settings.seed, self._starts(split.name)[0]
            )
            for split in splits
        }
        self._next_key = dict.fromkeys(self._names, 0)
        records = np.array([span.segment.records for span in self.spans])
        self._heap_of = heaps_of(records, _HEAP_ROWS)

    def segments(self, rows: PlannedRows, heap_of: Numbers, meter: Meter) -> Iterator[pa.Table]:
        """Yield each segment's rows, after ``PLAN``, in the order in which they are packed."""
        by_class = Buckets(PLANNED_ROWS, self._scratch)
        for table in rows.kept():
            by_class.add(table, heap_of[table["rank"].to_numpy()])
            meter.add(table.num_rows)
        by_segment = Buckets(_PLACED, self._scratch)
        for heap in range(int(heap_of[-1]) + 1):
            table = by_class.take(heap)
            table = table.sort_by([("rank", "ascending"), ("file_name", "ascending")])
            placed = self._placed(table)
            by_segment.add(placed, self._heap_of[placed["segment"].to_numpy()])
            meter.add(table.num_rows)
        for heap in range(int(self._heap_of[-1]) + 1):
            yield from self._cut(by_segment.take(heap))

    def _placed(self, table: pa.Table) -> pa.Table:
        """Return rows, sorted by class and file name, with their keys and places."""
        split = pc.index_in(table["split"], value_set=pa.array(self._names)).to_numpy()
        keys, at = np.empty((2, table.num_rows), np.int64)
        segments = np.empty(table.num_rows, np.int32)
        for number, name in enumerate(self._names):
            mine = np.flatnonzero(split == number)
            first = self._next_key[name]
            keys[mine] = np.arange(first, first + len(mine))
            self._next_key[name] += len(mine)
            at[mine] = self._positions[name][keys[mine]]
            segments[mine] = self._segments_at(name, at[mine])
        for name, column in (("key", keys), ("segment", segments), ("at", at)):
            table = table.append_column(_PLACED.field(name), pa.array(column))
        return table

    def _segments_at(self, split: str, positions: Numbers) -> Numbers:
        """Return the number of the segment that holds each position of a split."""
        firsts, numbers = self._starts(split)
        found: Numbers = np.array(numbers)[np.searchsorted(firsts, positions, "right") - 1]
        return found

    def _starts(self, split: str) -> tuple[list[int], list[int]]:
        """Return where the segments of a split start, in order, and their numbers."""
        mine = sorted((s.first, s.segment.number) for s in self.spans if s.origin == split)
        return [first for first, _ in mine], [number for _, number in mine]

    def _cut(self, heap: pa.Table) -> Iterator[pa.Table]:
        """Yield the segments of a heap one by one, and note their sizes."""
        order = np.lexsort((heap["at"].to_numpy(), heap["segment"].to_numpy()))
        heap, start = heap.take(pa.array(order)), 0
        for number in pc.unique(heap["segment"]).to_pylist():
            span = self.spans[number]
            rows = heap.slice(start, span.segment.records)
            start += rows.num_rows
            segment = replace(span.segment, bytes=pc.sum(rows["size"]).as_py())
            self.spans[number] = replace(span, segment=segment)
            self._count(segment, rows)
            yield self._rows_of(segment, rows)

    def _count(self, segment: Segment, rows: pa.Table) -> None:
        counts = self.planned.setdefault(segment.split, Counter())
        for item in pc.value_counts(rows["wnid"]).to_pylist():
            counts[item["values"]] += item["counts"]

    def _rows_of(self, segment: Segment, rows: pa.Table) -> pa.Table:
        columns = {
            "shard": pa.array(np.full(rows.num_rows, segment.shard, np.int32)),
            "label": pa.array(self._labels[rows["rank"].to_numpy()]),
        }
        return pa.table(
            [columns[name] if name in columns else rows[name] for name in PLAN.names], schema=PLAN
        )


def _check_one_origin(spans: list[Span]) -> None:
    """Refuse to take a split out of the training images that the dataset has by itself.

    Raises:
        ConfigError: It has.
    """
    origins: dict[str, str] = {}
    for span in spans:
        split = span.segment.split
        if origins.setdefault(split, span.origin) != span.origin:
            raise ConfigError(
                f"train_ratio and test_ratio make a split {split}, and the dataset has one of its "
                "own",
                remedy="Leave both ratios alone",
            )
