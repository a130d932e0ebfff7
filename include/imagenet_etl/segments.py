"""What the parent of the packing workers and the workers themselves agree on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from imagenet_etl.records.formats import FORMATS, LOOSE, SHARDS, shard_name
from imagenet_etl.selection import Segment

SEGMENT_SCHEMA = 2
"""Of a segment's receipt."""

READS = ("read_requests", "read_bytes", "member_bytes")
"""What ``reads`` in a segment's receipt tells where archives lie in a bucket: GETs, the bytes that
they brought, and those of the segment's members with their headers."""


@dataclass(frozen=True)
class PackJob:
    """What every worker of one pack stage is told at its start.

    Attributes:
        data_dir: The data folder.
        base: Key of the pack stage's folder.
        plan: Key of ``plan.parquet``.
        archives: The verified archives, by name.
        outputs: What each format's images become, as ``ImageSpec.canonical`` tells it.
        max_pixels: The largest image that is decoded.
        read_ahead: How many images are asked for at once, see ``archives.read_ahead``.
        staging: The folder for the workers' unfinished files, in their parent's staging.
        hardlink: Whether loose files that equal those of an unpacked source become links to them.
    """

    data_dir: str
    base: str
    plan: str
    archives: dict[str, dict[str, Any]]
    outputs: dict[str, str]
    max_pixels: int
    read_ahead: int
    staging: str
    hardlink: bool = False


def is_final(output: str, segment: Segment) -> bool:
    """Return whether a segment's files belong to the tree as they are, joined to nothing."""
    kind = FORMATS[output].kind
    return kind == LOOSE or (kind == SHARDS and segment.parts == 1)


def segment_file(output: str, segment: Segment, name: str) -> str:
    """Return the key below the pack folder of a segment's file.

    A segment that is a whole shard is written straight to its final place in the tree.
    """
    top = "tree" if is_final(output, segment) else "parts"
    return f"{top}/{FORMATS[output].path(segment.split, name)}"


def segment_name(segment: Segment, output: str) -> str:
    """Return the base name of a segment's files."""
    shard = shard_name(segment.split, segment.shard)
    return shard if is_final(output, segment) else f"{shard}-{segment.part:05d}"


def reads_of(receipts: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return what segments together read from buckets, by ``READS``; nothing if all was on disk."""
    reads = [receipt["reads"] for receipt in receipts if "reads" in receipt]
    return {name: sum(one[name] for one in reads) for name in READS} if reads else {}
