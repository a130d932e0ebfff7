"""Where shards and segments begin and end in a split that is in its final order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from imagenet_etl.config import SEGMENT_RECORDS, Settings
from imagenet_etl.errors import CountMismatch
from imagenet_etl.records.im2rec import chunk_size, ratio_slices
from imagenet_etl.selection import Segment

SMALL_SEGMENT, SHARED_BY = 512, 16
SHARD_RECORDS = 4 * SEGMENT_RECORDS
"""A shard of some target size is packed in one go, and so written once, up to this many records."""


@dataclass(frozen=True)
class Split:
    """A split of the index.

    Attributes:
        name: Its name.
        records: How many images it has.
        bytes: Their size in the archive.
    """

    name: str
    records: int
    bytes: int


@dataclass(frozen=True)
class Span:
    """A segment, and where its records are in the order of the split that they come from.

    Attributes:
        segment: The segment; its ``bytes`` are not known yet.
        origin: The split of the index, which may be divided into several.
        first: Position of its first record in that split.
    """

    segment: Segment
    origin: str
    first: int


def spans_of(split: Split, settings: Settings, first: int) -> Iterator[Span]:
    """Cut a split into shards and these into segments, by im2rec's rules.

    Args:
        split: The split.
        settings: How many shards, or of which size, and how they are divided.
        first: Number of the first segment.

    Raises:
        CountMismatch: The split holds no image.
    """
    if not split.records:
        raise CountMismatch(
            f"split {split.name} holds no image", remedy="Ask for the other splits alone"
        )
    size = shard_records(split, settings)
    number = first
    for name, pieces in _divided(split, size, settings):
        done, records = 0, sum(stop - start for start, stop in pieces)
        for shard, (start, stop) in enumerate(pieces):
            step = _step(stop - start, records, is_sized=_is_sized(split, settings))
            parts = math.ceil((stop - start) / step)
            for part in range(parts):
                at = start + part * step
                count = min(step, stop - at)
                yield Span(
                    Segment(number, name, shard, part, parts, done, count, 0), split.name, at
                )
                number, done = number + 1, done + count


def shard_records(split: Split, settings: Settings) -> int:
    """Return how many records a shard of the split has; its last one may have fewer.

    That is ceil(N / shards), im2rec's rule, where their number is asked for or follows from their
    size; else as many as a segment has.
    """
    shards = _shards(split, settings)
    if not shards and settings.shard_mib:
        shards = math.ceil(split.bytes / (settings.shard_mib << 20)) or 1
    return chunk_size(split.records, shards) if shards else segment_size(split.records)


def _shards(split: Split, settings: Settings) -> int:
    return settings.shards if split.name == "train" else settings.val_shards


def _is_sized(split: Split, settings: Settings) -> bool:
    """Return whether the size of shards is asked for, and there are enough for all workers."""
    shards = math.ceil(split.records / shard_records(split, settings))
    return bool(settings.shard_mib) and not _shards(split, settings) and shards >= SHARED_BY


def segment_size(records: int) -> int:
    """Return how many records a segment of a split has: the more, the fewer files.

    Small splits are cut finer, into ``SHARED_BY`` segments, so that all workers have work to do.
    """
    return min(SEGMENT_RECORDS, max(SMALL_SEGMENT, math.ceil(records / SHARED_BY)))


def _step(shard: int, records: int, *, is_sized: bool) -> int:
    """Return how many records the segments of a shard have; one may be the whole shard."""
    if shard <= (SHARD_RECORDS if is_sized else SEGMENT_RECORDS):
        return shard
    return segment_size(records)


def _divided(
    split: Split, size: int, settings: Settings
) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Yield the splits that a split becomes, each with the start and end of its shards.

    Only training images are ever divided: every chunk is cut by im2rec's ratios.
    """
    chunks = [(at, min(at + size, split.records)) for at in range(0, split.records, size)]
    if split.name != "train" or settings.train_ratio == 1:
        yield split.name, chunks
        return
    # im2rec takes its counts from the first chunk's size, also for a last one that is smaller.
    whole = chunks[0][1]
    for suffix, rows in ratio_slices(whole, settings.train_ratio, settings.test_ratio):
        start, stop, _ = rows.indices(whole)
        pieces = [
            (min(lo + start, hi), hi if rows.stop is None else min(lo + stop, hi))
            for lo, hi in chunks
        ]
        yield suffix.removeprefix("_"), [(lo, hi) for lo, hi in pieces if lo < hi]
