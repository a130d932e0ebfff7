"""A tar of tars: the outer one's members, then those of each tar inside, all read in place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from imagenet_etl.archives.listing import BATCH_MEMBERS, Listed
from imagenet_etl.archives.patterns import matches
from imagenet_etl.archives.tar import list_tar
from imagenet_etl.archives.tar_blocks import Headers, members_of
from imagenet_etl.archives.tar_header import header_name
from imagenet_etl.archives.tar_walk import TarWalk
from imagenet_etl.errors import ArchiveError, BadArchive
from imagenet_etl.storage import ReadAt


def list_class_tars(
    file: ReadAt, archive: str, class_tars: re.Pattern[str] | None
) -> Iterator[Listed]:
    """Yield the members of a tar, then those of the tars in it: several small ones at a time.

    A tar in it of many members is yielded in parts, so memory does not follow its members.

    Args:
        file: The open tar.
        archive: Its name, for errors.
        class_tars: Which members are tars to be listed; their members are named
            ``<class tar>/<member>``.

    Raises:
        BadArchive: A tar is truncated, compressed or breaks the format, or one in it is empty.
        UnsafeMember: A member is no regular file, or has an unsafe name.
    """
    found: list[pa.Table] = []
    for members in list_tar(file, archive):
        yield Listed(members, class_tars_follow=True)
        if class_tars is not None:
            found.append(members.filter(matches(members["member"], class_tars).is_valid()))
    gathered = _Gathered(archive)
    for row in (row for table in found for row in table.to_pylist()):
        try:
            for headers in _headers_of(file, archive, row):
                gathered.add(row["member"], headers)
                if gathered.rows >= BATCH_MEMBERS:
                    yield from gathered.listed()
        except ArchiveError:
            yield from gathered.listed()  # trouble with what came before is told first
            raise
        if gathered.goes_on:
            yield from gathered.listed()  # its names are compared to its end: let that come soon
    yield from gathered.listed()


def _headers_of(file: ReadAt, archive: str, tar: dict[str, Any]) -> Iterator[Headers]:
    """Yield the headers of one class tar, some thousand at a time."""
    start = tar["offset"]
    place = f"{archive}: {tar['member']}"
    empty = True
    for headers in TarWalk(file, place, start, start + tar["size"]).headers():
        empty = empty and all(_is_folder(headers, row) for row in range(len(headers)))
        yield headers
    if empty:
        # Without it the class would be gone, and the labels of those after it would shift.
        raise BadArchive(
            f"{place} holds no file",
            found=f"a tar of {tar['size']:,} bytes from byte {start} on",
            remedy="Get the archive anew from its publisher",
        )


def _is_folder(headers: Headers, row: int) -> bool:
    """Return whether it is a folder as old archives hold them: an empty file ``x/``."""
    name = headers.names.get(row) or header_name(headers.blocks[row])
    return name.endswith(b"/")


class _Gathered:
    """Headers of several class tars: looked at together, since each look has its cost."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._parts: list[tuple[str, Headers]] = []
        self._last = ""

    @property
    def rows(self) -> int:
        return sum(len(headers) for _, headers in self._parts)

    @property
    def goes_on(self) -> bool:
        """Whether the first headers belong to the class tar that was listed last."""
        return bool(self._parts) and self._parts[0][0] == self._last

    def add(self, class_tar: str, headers: Headers) -> None:
        self._parts.append((class_tar, headers))

    def listed(self) -> Iterator[Listed]:
        """Yield all that was added, if anything was, and forget it."""
        goes_on, parts, self._parts = self.goes_on, self._parts, []
        if not parts:
            return
        self._last = parts[-1][0]
        together = Headers()
        for _, headers in parts:
            together.extend(headers)
        names = pa.array([class_tar for class_tar, _ in parts])
        rows = np.repeat(np.arange(len(parts)), [len(headers) for _, headers in parts])
        try:
            members = members_of(together, self._archive, names.take(pa.array(rows)))
        except ArchiveError:
            for class_tar, headers in parts:  # to tell in which one it is
                members_of(headers, f"{self._archive}: {class_tar}")
            raise
        yield Listed(members, in_class_tars=True, goes_on=goes_on)
