"""Where one file lies inside an archive, and the checks that every kind of archive shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagenet_etl.datasets import Layout
from imagenet_etl.errors import UnexpectedMember, UnsafeMember

STORED, DEFLATED = 0, 8


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive.

    Attributes:
        name: Its name in the archive, ``/`` between folders.
        header_offset: Where its header starts, in bytes from the archive's start.
        offset: Where its stored bytes start.
        stored_size: How many bytes are stored.
        size: How many bytes the file has.
        method: ``STORED`` or ``DEFLATED``.
        crc32: CRC-32 of the file, -1 where the format has none.
    """

    name: str
    header_offset: int
    offset: int
    stored_size: int
    size: int
    method: int = STORED
    crc32: int = -1


def accepted(members: Iterable[Member], layout: Layout, archive: str) -> Iterator[Member]:
    """Pass on members within the layout's caps and without duplicates; refuse the rest.

    Names are compared case-blind, since the ImageFolder output may land on such a file system.

    Raises:
        UnsafeMember: Too many members, or one that is too large.
        UnexpectedMember: Two members have one name.
    """
    seen: dict[str, int] = {}
    for member in members:
        if len(seen) >= layout.max_members:
            raise UnsafeMember(f"{archive} has too many members", expected=layout.max_members)
        if member.size > layout.max_member_bytes or member.stored_size > layout.max_member_bytes:
            raise UnsafeMember(
                f"{archive}: member {member.name} is too large",
                expected=f"at most {layout.max_member_bytes:,} bytes",
                found=f"{max(member.size, member.stored_size):,}",
            )
        name = member.name.casefold()
        if name in seen:
            raise UnexpectedMember(
                f"{archive}: {member.name} appears twice",
                found=f"headers at bytes {seen[name]} and {member.header_offset}",
                remedy="Get the archive anew from its publisher",
            )
        seen[name] = member.header_offset
        yield member
