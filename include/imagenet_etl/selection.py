"""Stage ``plan_shards``: which record goes where, decided on the table alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.config import SEGMENT_RECORDS
from imagenet_etl.errors import CountMismatch
from imagenet_etl.files import pretty_json
from imagenet_etl.index import PLAN
from imagenet_etl.records.im2rec import chunk_size, shuffled_order
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table, write_batches


@dataclass(frozen=True)
class Segment:
    """A run of records that one worker packs in one go.

    Attributes:
        number: Row group in ``plan.parquet``.
        split: ``train`` or ``val``.
        shard: The shard it belongs to, counted within the split.
        part: Its position in that shard.
        parts: How many segments the shard has.
        records: How many records it has, at most ``SEGMENT_RECORDS``.
        bytes: Size of its images as they are in the archive.
    """

    number: int
    split: str
    shard: int
    part: int
    parts: int
    records: int
    bytes: int


def plan_shards(place: Place) -> Result:
    """Write ``plan.parquet`` (one row group a segment) and ``segments.json``.

    Raises:
        CountMismatch: A split that is asked for holds no image.
    """
    settings = place.build.settings
    labelled = place.done["restructure_val"]
    index = read_table(place.build.storage, labelled.key_of("images.parquet"))
    labels = [wnid for wnid, _ in labelled.facts["classes"]]
    segments: list[Segment] = []
    tables: list[pa.Table] = []
    for split, shards in (("train", settings.shards), ("val", settings.val_shards)):
        ordered = shuffled(keyed(index, split, labels), settings.seed)
        if not ordered.num_rows:
            raise CountMismatch(f"split {split} holds no image")
        for segment, table in cut(ordered, split, shards, first=len(segments)):
            segments.append(segment)
            tables.append(table)
    plan = place.scratch()
    write_batches(plan, PLAN, tables)
    listing = place.scratch()
    listing.write_bytes(pretty_json([asdict(segment) for segment in segments]))
    left_out = {f"left_out_{s}": _count(index, s) for s in place.build.facts.unlabelled}
    return Result(
        counts={
            "train_images": sum(s.records for s in segments if s.split == "train"),
            "val_images": sum(s.records for s in segments if s.split == "val"),
            "segments": len(segments),
            **left_out,
        },
        outputs=(place.publish("plan.parquet", plan), place.publish("segments.json", listing)),
        facts={"classes": labelled.facts["classes"]},
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


def cut(table: pa.Table, split: str, shards: int, first: int) -> Iterator[tuple[Segment, pa.Table]]:
    """Cut a split into shards of ceil(N / shards), im2rec's rule, and those into segments.

    Args:
        table: The split's rows in their final order.
        split: Its name.
        shards: How many shards; 0 makes every segment a shard.
        first: Number of the first segment.
    """
    per_shard = chunk_size(table.num_rows, shards) if shards else SEGMENT_RECORDS
    number = first
    for shard, start in enumerate(range(0, table.num_rows, per_shard)):
        rows = table.slice(start, per_shard)
        parts = math.ceil(rows.num_rows / SEGMENT_RECORDS)
        for part in range(parts):
            piece = rows.slice(part * SEGMENT_RECORDS, SEGMENT_RECORDS)
            size = pc.sum(piece["size"]).as_py()
            yield (
                Segment(number, split, shard, part, parts, piece.num_rows, size),
                _planned(piece, number, shard),
            )
            number += 1


def _planned(piece: pa.Table, number: int, shard: int) -> pa.Table:
    for name, value in (("segment", number), ("shard", shard)):
        column = pa.array([value] * piece.num_rows, pa.int32())
        piece = piece.append_column(name, column)
    return piece.select(PLAN.names).cast(PLAN)


def _count(index: pa.Table, split: str) -> int:
    return int(pc.sum(pc.equal(index["split"], split)).as_py() or 0)
