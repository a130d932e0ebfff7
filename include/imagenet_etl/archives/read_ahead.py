"""Members asked for before they are read, from disks and from buckets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from imagenet_etl.archives.member import Member
from imagenet_etl.archives.opened import OpenArchive

LOT_MEMBERS = 512
"""The members of an archive in a bucket that are asked for at once, if no more are wanted."""

LOT_BYTES = 24 << 20
"""A lot of them ends with the member that brings it to so many bytes."""

Planned = tuple[dict[str, Any], OpenArchive, Member]
"""A row of the plan, its archive, and where its image lies in there."""


def read_ahead(planned: Iterator[Planned], count: int) -> Iterator[Planned]:
    """Hand on what is planned, lot by lot, after asking for the lot that follows.

    Each lot is asked for in the order in which it lies in the archives, so that neighbours in it
    come with one read.

    From a disk a lot has ``count`` members, which wait in the page cache. What comes from a bucket
    waits in this process, and each member without a neighbour costs a request that takes longer
    than the member itself. So a lot from there may have more of them, and ends with the one that
    brings it to ``LOT_BYTES``: two lots of 110 KB images are about 450 requests under way or
    answered, in 48 MiB and the size of two images. Shuffled by blocks, few of 220 images out of a
    window of 4,096 are neighbours, and nearly each costs a request, as when shuffled globally;
    images of a few KB have a window in one lot, and a block of them costs one.

    Args:
        planned: What is to be read, in this order.
        count: How many members of an archive on a disk are asked for at once.
    """
    lot = _asked_for(planned, count)
    while lot:
        following = _asked_for(planned, count)
        yield from lot
        lot = following


def _asked_for(planned: Iterator[Planned], count: int) -> list[Planned]:
    items = _lot(planned, count)
    for _, together in groupby(sorted(items, key=_where), key=lambda item: item[1].name):
        asked = list(together)
        asked[0][1].will_need([member for _, _, member in asked])
    return items


def _lot(planned: Iterator[Planned], count: int) -> list[Planned]:
    lot: list[Planned] = []
    size, most = 0, count
    for item in planned:
        _, archive, member = item
        lot.append(item)
        if archive.by_request:
            size += member.stored_size
            most = max(count, LOT_MEMBERS)
        if size >= LOT_BYTES or len(lot) >= most:
            break
    return lot


def _where(item: Planned) -> tuple[str, str, int]:
    """Return what sorts members by where they lie: those of a folder may lie in class tars."""
    _, archive, member = item
    folder = "" if archive.by_request else member.name.rpartition("/")[0]
    return archive.name, folder, member.header_offset
