"""What a worker needs at once on its own disk, where the data folder is in a bucket.

Packing writes one segment of each format a process before it goes up. A shard that is joined of
several segments and a database are made of local copies of their parts, and go up when they are
whole; the tables of the index are sorted on heaps. These come one after the other, so the largest
decides. Workers on other machines are taken to have a temporary folder like the one here, and as
many cores. What is free is what the file system says: a limit on a container's scratch, such as the
``sizeLimit`` of an ``emptyDir`` or ``ephemeral-storage``, is seen by nobody before it is passed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from imagenet_etl.build import Build
from imagenet_etl.preflight.disks import SCRATCH
from imagenet_etl.preflight.images import Share
from imagenet_etl.preflight.needs import (
    TABLE_BYTES,
    Need,
    output_bytes,
    sure_share,
)
from imagenet_etl.processes import cores
from imagenet_etl.records.formats import DATABASE, FORMATS, SHARDS
from imagenet_etl.segments import is_final
from imagenet_etl.selection import Segment
from imagenet_etl.shards import Split, spans_of

COPIES = 2
"""Of what is joined: the parts, and what they become."""


@dataclass(frozen=True)
class _Size:
    """Images and their bytes in the archive."""

    images: int
    bytes: int

    def __add__(self, other: _Size) -> _Size:
        return _Size(self.images + other.images, self.bytes + other.bytes)


def scratch_need(build: Build, shares: Sequence[Share], segments: Sequence[Segment] | None) -> Need:
    """Return what a worker needs in its temporary folder at once, at most.

    Args:
        build: The run.
        shares: What every split holds.
        segments: The plan's segments that are still to be packed; None where there is no plan yet.
    """
    if segments is None:
        packed = [share for share in shares if share.is_packed]
        if any(share.images is None or share.bytes is None for share in packed):
            return Need("at once", SCRATCH, None)
        segments = [one for share in packed for one in _cut(build, share)]
        sure = sure_share(build.facts, build.settings)
    else:
        sure = 1.0
    images = sum(one.records for one in segments)
    most = max(
        images * max(TABLE_BYTES.values()),
        _packing(build, segments),
        *(_joining(build, name, segments) for name in build.settings.outputs),
    )
    return Need.of("at once", SCRATCH, most, sure=sure)


def _cut(build: Build, share: Share) -> list[Segment]:
    """Return the segments that a split will be cut into, of images of average size."""
    images, stored = share.images or 0, share.bytes or 0
    if not images:
        return []
    spans = spans_of(Split(share.split, images, stored), build.settings, first=0)
    cut = [span.segment for span in spans]
    return [
        Segment(s.number, s.split, s.shard, s.part, s.parts, s.start, s.records,
                stored * s.records // images)
        for s in cut
    ]  # fmt: skip


def _bytes(build: Build, output: str, size: _Size) -> int:
    spec = build.settings.outputs[output]
    return output_bytes(output, spec, size.images, size.bytes, twice=False)


def _packing(build: Build, segments: Sequence[Segment]) -> int:
    """Return the largest segments, one a process, in all formats."""
    sizes = [
        sum(_bytes(build, name, _Size(one.records, one.bytes)) for name in build.settings.outputs)
        for one in segments
    ]
    return sum(sorted(sizes, reverse=True)[: build.settings.worker_count()])


def _joining(build: Build, output: str, segments: Sequence[Segment]) -> int:
    """Return what joining a format's segments takes at once."""
    kind = FORMATS[output].kind
    wholes: dict[tuple[str, int], _Size] = defaultdict(lambda: _Size(0, 0))
    for one in segments:
        if not is_final(output, one):
            shard = one.shard if kind == SHARDS else 0  # a database holds a whole split
            wholes[one.split, shard] += _Size(one.records, one.bytes)
    at_once = 1 if kind == DATABASE else cores()
    sizes = sorted((_bytes(build, output, size) for size in wholes.values()), reverse=True)
    return COPIES * sum(sizes[:at_once])
