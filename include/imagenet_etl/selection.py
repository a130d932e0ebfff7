"""Segments, the units of packing, and the groups in which they are shared out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imagenet_etl.errors import ConfigError

GROUP_SEGMENTS, GROUP_IMAGES = 16, 65_536
"""The most a group has: eleven minutes at 100 images/s, one or two at the usual speed."""

MAX_GROUPS = 100
"""Schedulers get slow with hundreds of mapped tasks; full ImageNet's groups have twice as many."""


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
        records: How many records it has, at most ``SEGMENT_RECORDS``; a shard of some target size
            that is a segment by itself may have ``SHARD_RECORDS``.
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


def groups_of(segments: int, images: int) -> list[Group]:
    """Share out segments: some minutes' work a group, and never more than ``MAX_GROUPS``."""
    wanted = max(math.ceil(segments / GROUP_SEGMENTS), math.ceil(images / GROUP_IMAGES))
    count = min(MAX_GROUPS, segments, wanted)
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
