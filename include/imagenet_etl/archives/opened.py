"""An open archive of any kind: its members listed and read while it may not change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from imagenet_etl.archives.folder import list_folder, read_folder_member, will_need_file
from imagenet_etl.archives.kinds import TAR_GZ, ZIP
from imagenet_etl.archives.listing import Listed, tabulated
from imagenet_etl.archives.member import Member
from imagenet_etl.archives.nested import list_class_tars
from imagenet_etl.archives.tar import read_tar_member
from imagenet_etl.archives.tar_gz import unpacked
from imagenet_etl.archives.zip import list_zip, read_zip_member
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.storage import ReadAt, Stat


class OpenArchive(Protocol):
    """An archive that is checked when it is opened, at each read, and when it is closed."""

    name: str

    def listed(self, class_tars: re.Pattern[str] | None) -> Iterator[Listed]:
        """Yield the archive's members in its order.

        Args:
            class_tars: Which members of a tar are tars to be listed in their turn.

        Raises:
            BadArchive: It is truncated or breaks its format.
            UnsafeMember: A member is no regular file, or its name or place is unsafe.
        """

    def read(self, member: Member) -> bytes:
        """Return a member's content.

        Raises:
            ArchiveChanged: It is not what was indexed.
            BadImage: Its content is damaged.
        """

    def will_need(self, member: Member) -> None:
        """Ask for read-ahead of a member with its header."""

    def check(self) -> None:
        """Make sure that neither what is open nor what its name leads to has changed.

        Raises:
            ArchiveChanged: Either has.
        """


class OpenFile:
    """A zip or tar, in its place or unpacked into memory; see ``OpenArchive``.

    Args:
        name: Its name in the index.
        location: Where it is, for errors.
        kind: ``zip``, ``tar`` or ``tar.gz``.
        file: The open file.
        verified: Its size and tag when it was verified.
    """

    def __init__(self, name: str, location: str, kind: str, file: ReadAt, verified: Stat) -> None:
        self.name = name
        self.file = file
        self._location = location
        self._kind = kind
        self._verified = verified

    @cached_property
    def _content(self) -> ReadAt:
        """What the offsets of members count in."""
        return unpacked(self.file, self.name) if self._kind == TAR_GZ else self.file

    def listed(self, class_tars: re.Pattern[str] | None) -> Iterator[Listed]:
        """Yield the members, those of class tars after all of the tar's own."""
        if self._kind == ZIP:
            yield from map(Listed, tabulated(list_zip(self._content, self.name)))
        else:
            yield from list_class_tars(self._content, self.name, class_tars)

    def read(self, member: Member) -> bytes:
        """Return a member's content, read with its header in one go."""
        read = read_zip_member if self._kind == ZIP else read_tar_member
        return read(self._content, member, self.name)

    def will_need(self, member: Member) -> None:
        """Ask for read-ahead of a member with its header."""
        span = member.offset + member.stored_size - member.header_offset
        self._content.will_need(member.header_offset, span)

    def check(self) -> None:
        """Compare size and tag of the open file, and of what its name leads to."""
        expected = self._verified
        for found in (self.file.stat, self.file.current_stat()):
            if found != expected:
                raise ArchiveChanged(
                    f"{self._location} changed since it was verified",
                    expected=f"{expected.size:,} bytes, tag {expected.tag}",
                    found=f"{found.size:,} bytes, tag {found.tag}" if found else "nothing",
                    remedy="Run again to index it anew; leave archives alone while a run uses them",
                )


class OpenFolder:
    """An unpacked archive; see ``OpenArchive``.

    Args:
        name: Its name in the index.
        root: The folder.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def listed(self, class_tars: re.Pattern[str] | None) -> Iterator[Listed]:  # noqa: ARG002
        """Yield the files; a tar among them is not looked into."""
        yield from map(Listed, tabulated(list_folder(self._root, self.name)))

    def read(self, member: Member) -> bytes:
        """Return a file's content, its size and mtime being those of the index."""
        return read_folder_member(self._root, member)

    def will_need(self, member: Member) -> None:
        """Ask for read-ahead of a file."""
        will_need_file(self._root / member.name)

    def check(self) -> None:
        """Make sure that the folder is there; its files are checked as they are read."""
        if not self._root.is_dir():
            raise ArchiveChanged(f"{self._root} is gone", remedy="Restore it, then run again")
