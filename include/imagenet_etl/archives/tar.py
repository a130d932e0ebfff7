"""Tars, listed without reading what their members hold, and read in place."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pyarrow as pa

from imagenet_etl.archives.member import Member
from imagenet_etl.archives.tar_blocks import members_of
from imagenet_etl.archives.tar_header import BLOCK, SIZE_FIELD, number
from imagenet_etl.archives.tar_walk import TarWalk
from imagenet_etl.archives.windows import AHEAD
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.storage import ReadAt


def list_tar(file: ReadAt, place: str, start: int = 0, end: int = -1) -> Iterator[pa.Table]:
    """Yield the regular files of a tar, in its order, as tables after ``listing.MEMBERS``.

    Offsets count from the start of the file, also for a tar inside another. In a bucket, one of
    usual images is read through, several windows at once; members further apart than a request is
    worth are hopped between one after the other: 1,000 class tars take 1,000 requests in a row.

    Args:
        file: The open archive.
        place: The archive's name, for errors; with that of the tar inside, where it is one.
        start: Where the tar starts, in bytes.
        end: Where it ends; -1 for the end of the file.

    Raises:
        BadArchive: It is truncated, compressed, no tar, or breaks the format.
        UnsafeMember: A member is a link, device or sparse file, or has an unsafe name or size.
    """
    walk = TarWalk(file, place, start, file.stat.size if end < 0 else end, AHEAD)
    for headers in walk.headers():
        yield members_of(headers, place)


def read_tar_member(file: ReadAt, member: Member, archive: str) -> bytes:
    """Read one member with its header in a single read.

    Raises:
        ArchiveChanged: The header is no longer the one that was indexed.
    """
    raw = file.read_at(member.header_offset, BLOCK + member.size)
    head = raw[:BLOCK]
    if (
        len(raw) != BLOCK + member.size
        or zlib.crc32(head) != member.check
        or number(head[SIZE_FIELD]) != member.size
    ):
        raise ArchiveChanged(
            f"{archive}: {member.name} is no longer at byte {member.header_offset}",
            remedy="Run again to index the archive anew",
        )
    return raw[BLOCK:]
