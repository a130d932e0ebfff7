"""Stage ``plan_shards``: which record goes where, decided on the table alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.config import SEGMENT_RECORDS, Settings
from imagenet_etl.errors import ConfigError, CountMismatch
from imagenet_etl.files import pretty_json
from imagenet_etl.index import PLAN
from imagenet_etl.records.im2rec import chunk_size, ratio_slices, shuffled_order
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table, write_batches

SMALL_SEGMENT, SHARED_BY = 512, 16
GROUP_SEGMENTS = 16
"""65,536 images: eleven minutes at 100 images/s, one or two at the usual speed."""

MAX_GROUPS = 100
"""Schedulers get slow with hundreds of mapped tasks."""


@dataclass(frozen=True)
class Segment:
    """A run of records that one worker packs in one go.

    Attributes:
        number: Row group in ``plan.parquet``.
        split: ``train`` or ``val``.
        shard: The shard it belongs to, counted within the split.
        part: Its position in that shard.
        parts: How many segments the shard has.
        start: How many records of the split come before it.
        records: How many records it has, at most ``SEGMENT_RECORDS``.
        bytes: Size of its images as they are in the archive.
    """

    number: int
    split: str
    shard: int
    part: int
    parts: int
    start: int
    records: int
    bytes: int


@dataclass(frozen=True)
class Group:
    """One of several equal shares of a plan's segments: every ``count``-th, from ``number`` on.

    Attributes:
        number: Which share, from 1 on.
        count: How many shares there are.

    Raises:
        ConfigError: The number is not between 1 and the count.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"group {self.number}/{self.count}", expected="I/N with I from 1 to N"
            )

    def of(self, segments: list[Segment]) -> list[Segment]:
        """Return the segments of this group."""
        return segments[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def groups_of(segments: int) -> list[Group]:
    """Share out segments: some minutes' work a group, and never more than ``MAX_GROUPS``."""
    count = min(MAX_GROUPS, math.ceil(segments / GROUP_SEGMENTS))
    return [Group(number, count) for number in range(1, count + 1)]


def parse_group(text: str) -> Group:
    """Parse ``I/N``.

    Raises:
        ConfigError: It is something else.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ConfigError(f"group {text!r}", expected="I/N with I from 1 to N")
    return Group(int(number), int(count))


def plan_shards(place: Place) -> Result:
    """Write ``plan.parquet`` (one row group a segment) and ``segments.json``.

    Raises:
        CountMismatch: A labelled split holds no image.
        ConfigError: The ratios make a split that the dataset has already.
    """
    settings, unlabelled = place.build.settings, place.build.facts.unlabelled
    kept, splits = place.done["filter_classes"], place.done["download"].facts["splits"]
    index = read_table(place.build.storage, kept.key_of("images.parquet"))
    labels = [entry["wnid"] for entry in kept.facts["classes"]]
    segments: list[Segment] = []
    tables: list[pa.Table] = []
    planned = 0
    for split in (name for name in splits if name not in unlabelled):
        ordered = _ordered(index, split, labels, settings.seed)
        shards = settings.shards if split == "train" else settings.val_shards
        for name, pieces in divided(list(chunks(ordered, shards)), split, settings):
            _check_not_there(name, segments)
            for segment, table in cut(pieces, name, first=len(segments)):
                segments.append(segment)
                tables.append(table)
        planned += ordered.num_rows
    assert sum(segment.records for segment in segments) == planned  # no image is lost here
    plan = place.scratch()
    write_batches(plan, PLAN, tables)
    listing = place.scratch()
    listing.write_bytes(pretty_json([asdict(segment) for segment in segments]))
    images = Counter[str]()
    for segment in segments:
        images[segment.split] += segment.records
    left_out = {f"left_out_{s}": _count(index, s) for s in unlabelled if s in splits}
    return Result(
        counts={
            **{f"{split}_images": count for split, count in images.items()},
            "segments": len(segments),
            **left_out,
        },
        outputs=(place.publish("plan.parquet", plan), place.publish("segments.json", listing)),
        facts={"classes": kept.facts["classes"]},
    )


def _ordered(index: pa.Table, split: str, labels: list[str], seed: int) -> pa.Table:
    """Return one split in the order in which it is packed.

    Raises:
        CountMismatch: It holds no image.
    """
    ordered = shuffled(keyed(index, split, labels), seed)
    if not ordered.num_rows:
        raise CountMismatch(
            f"split {split} holds no image", remedy="Ask for the other splits alone"
        )
    return ordered


def _check_not_there(split: str, segments: list[Segment]) -> None:
    """Refuse to take a split out of the training images that the dataset has by itself.

    Raises:
        ConfigError: It has.
    """
    if any(segment.split == split for segment in segments):
        raise ConfigError(
            f"train_ratio and test_ratio make a split {split}, and the dataset has one of its own",
            remedy="Leave both ratios alone",
        )


def keyed(index: pa.Table, split: str, labels: list[str]) -> pa.Table:
    """Return one split in im2rec's order, sorted by class and file name, with key and label.

    Args:
        index: The labelled index.
        split: Its name.
        labels: wnids in label order.
    """
    table = index.filter(pc.equal(index["split"], split))
    table = table.sort_by([("wnid", "ascending"), ("file_name", "ascending")])
    label = pc.index_in(table["wnid"], value_set=pa.array(labels, pa.string()))
    keys = pa.array(range(table.num_rows), pa.int64())
    return table.append_column("key", keys).append_column("label", label)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """Return the rows in the order that im2rec's ``random.shuffle`` gives for the seed."""
    return table.take(pa.array(shuffled_order(table.num_rows, seed), pa.int64()))


def chunks(table: pa.Table, shards: int) -> Iterator[pa.Table]:
    """Cut a split, in its final order, into shards of ceil(N / shards) records, im2rec's rule.

    Args:
        table: The split's rows.
        shards: How many; with 0 each has as many records as a segment.
    """
    size = chunk_size(table.num_rows, shards) if shards else segment_size(table.num_rows)
    for start in range(0, table.num_rows, size):
        yield table.slice(start, size)


def segment_size(records: int) -> int:
    """Return how many records a segment of a split has: the more, the fewer files.

    Small splits are cut finer, into ``SHARED_BY`` segments, so that all workers have work to do.
    """
    return min(SEGMENT_RECORDS, max(SMALL_SEGMENT, math.ceil(records / SHARED_BY)))


def divided(
    pieces: list[pa.Table], split: str, settings: Settings
) -> Iterator[tuple[str, list[pa.Table]]]:
    """Yield the splits that a split becomes, each with its shards.

    Only training images are ever divided: every chunk is cut by im2rec's ratios.
    """
    if split != "train" or settings.train_ratio == 1:
        yield split, pieces
        return
    size = pieces[0].num_rows
    for suffix, rows in ratio_slices(size, settings.train_ratio, settings.test_ratio):
        start, stop, _ = rows.indices(size)
        parts = [p.slice(start, None if rows.stop is None else stop - start) for p in pieces]
        yield suffix.removeprefix("_"), [part for part in parts if part.num_rows]


def cut(pieces: list[pa.Table], split: str, first: int) -> Iterator[tuple[Segment, pa.Table]]:
    """Cut each shard into segments; one that is small enough is a segment by itself.

    Args:
        pieces: The shards of a split.
        split: Its name.
        first: Number of the first segment.
    """
    number, done = first, 0
    size = segment_size(sum(piece.num_rows for piece in pieces))
    for shard, rows in enumerate(pieces):
        step = SEGMENT_RECORDS if rows.num_rows <= SEGMENT_RECORDS else size
        parts = math.ceil(rows.num_rows / step)
        for part in range(parts):
            piece = rows.slice(part * step, step)
            stored = pc.sum(piece["size"]).as_py()
            yield (
                Segment(number, split, shard, part, parts, done, piece.num_rows, stored),
                _planned(piece, number, shard),
            )
            number, done = number + 1, done + piece.num_rows


def _planned(piece: pa.Table, number: int, shard: int) -> pa.Table:
    for name, value in (("segment", number), ("shard", shard)):
        column = pa.array([value] * piece.num_rows, pa.int32())
        piece = piece.append_column(name, column)
    return piece.select(PLAN.names).cast(PLAN)


def _count(index: pa.Table, split: str) -> int:
    return int(pc.sum(pc.equal(index["split"], split)).as_py() or 0)
