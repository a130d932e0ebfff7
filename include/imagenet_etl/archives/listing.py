"""Tables of the members of an archive, and the check that no two of them bear one name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.member import Member
from imagenet_etl.errors import UnexpectedMember

MEMBERS = pa.schema(
    [
        ("member", pa.string()),
        ("header_offset", pa.int64()),
        ("offset", pa.int64()),
        ("stored_size", pa.int64()),
        ("size", pa.int64()),
        ("method", pa.int8()),
        ("check", pa.int64()),
    ]
)
"""One row a member, the fields of ``Member``."""

BATCH_MEMBERS = 8192


def tabulated(members: Iterable[Member]) -> Iterator[pa.Table]:
    """Gather members into tables of at most ``BATCH_MEMBERS``."""
    rest = iter(members)
    while batch := [astuple(member) for member in islice(rest, BATCH_MEMBERS)]:
        columns = [list(column) for column in zip(*batch, strict=True)]
        yield pa.table(columns, schema=MEMBERS)


class Distinct:
    """Notices two members of one name.

    Names are compared case-blind, since the ImageFolder output may land on such a file system.
    Holds 8 bytes a member more than the names themselves.

    Args:
        place: The archive, for errors.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._names: list[pa.Array] = []
        self._offsets: list[pa.Array] = []

    def add(self, members: pa.Table) -> None:
        """Take note of more members."""
        self._names += members["member"].chunks
        self._offsets += members["header_offset"].chunks

    def check(self) -> None:
        """Compare all names noted so far.

        Raises:
            UnexpectedMember: Two are equal, or are so on a file system that ignores case.
        """
        names = pa.chunked_array(self._names, pa.string())
        if pc.count_distinct(_folded(names)).as_py() == len(names):
            return
        offsets = pa.chunked_array(self._offsets, pa.int64())
        seen: dict[str, int] = {}
        for name, offset in zip(names, offsets, strict=True):
            key = name.as_py().casefold()
            if key in seen:
                raise UnexpectedMember(
                    f"{self._place}: {name} appears twice",
                    found=f"headers at bytes {seen[key]} and {offset}",
                    remedy="Get the archive anew from its publisher",
                )
            seen[key] = offset.as_py()


def _folded(names: pa.ChunkedArray) -> pa.ChunkedArray:
    if pc.all(pc.string_is_ascii(names)).as_py() is not False:
        return pc.ascii_lower(names)
    return pa.chunked_array([[name.as_py().casefold() for name in names]], pa.string())
