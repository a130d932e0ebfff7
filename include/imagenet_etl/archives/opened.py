"""An open archive of any kind: its members listed and read while it may not change."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from imagenet_etl.archives.class_tars import WALKERS, WALKERS_BY_REQUEST, ClassTar, Span
from imagenet_etl.archives.folder import list_folder, read_folder_member, will_need_file
from imagenet_etl.archives.folder_tars import (
    is_in_class_tar,
    open_in_folder,
    read_in_folder,
    will_need_in_folder,
)
from imagenet_etl.archives.kinds import TAR_GZ, ZIP
from imagenet_etl.archives.listing import tabulated
from imagenet_etl.archives.member import Member
from imagenet_etl.archives.nested import Inside, list_inside
from imagenet_etl.archives.tar import list_tar, read_tar_member
from imagenet_etl.archives.tar_gz import unpacked
from imagenet_etl.archives.windows import by_request
from imagenet_etl.archives.zip import list_zip, read_zip_member
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.storage import ReadAt, Stat
from imagenet_etl.storage.s3_counts import Counted, counted


class OpenArchive(Protocol):
    """An archive that is checked when it is opened, at each read, and when it is closed."""

    name: str

    @property
    def looks_into_tars(self) -> bool:
        """Whether what class tars hold can be read in place."""

    @property
    def by_request(self) -> bool:
        """Whether what is asked for ahead waits in this process's memory, not in the page cache."""

    def listed(self) -> Iterator[pa.Table]:
        """Yield the archive's own members in its order, as tables after ``listing.MEMBERS``.

        Raises:
            BadArchive: It is truncated or breaks its format.
            UnsafeMember: A member is no regular file, or its name or place is unsafe.
        """

    def inside(
        self, tars: Iterable[ClassTar], *, tolerant: bool = False
    ) -> Generator[Inside, None, None]:
        """Yield what class tars among its members hold; see ``nested.list_inside``.

        Only an archive that looks into tars is asked.
        """

    def read(self, member: Member) -> bytes:
        """Return a member's content.

        Raises:
            ArchiveChanged: It is not what was indexed.
            BadImage: Its content is damaged.
        """

    def will_need(self, members: Sequence[Member]) -> None:
        """Ask for read-ahead of members with their headers, given in the order they lie in."""

    def counted(self) -> Counted:
        """Return the requests that it took since it was opened; none on a disk."""

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

    @property
    def looks_into_tars(self) -> bool:
        """Whether what class tars hold can be read in place."""
        return self._kind != ZIP

    @property
    def by_request(self) -> bool:
        """Whether it lies in a bucket, and is not unpacked into memory."""
        return by_request(self._content)

    def listed(self) -> Iterator[pa.Table]:
        """Yield the archive's own members."""
        if self._kind == ZIP:
            return tabulated(list_zip(self._content, self.name))
        return list_tar(self._content, self.name)

    def inside(
        self, tars: Iterable[ClassTar], *, tolerant: bool = False
    ) -> Generator[Inside, None, None]:
        """Yield what class tars hold."""
        at_once = WALKERS_BY_REQUEST if self.by_request else WALKERS
        return list_inside(tars, self._span, self.name, tolerant=tolerant, at_once=at_once)

    @contextmanager
    def _span(self, tar: ClassTar) -> Iterator[Span]:
        yield Span(self._content, tar.offset, tar.offset + tar.size)

    def read(self, member: Member) -> bytes:
        """Return a member's content, read with its header in one go."""
        read = read_zip_member if self._kind == ZIP else read_tar_member
        return read(self._content, member, self.name)

    def will_need(self, members: Sequence[Member]) -> None:
        """Ask for read-ahead of members with their headers."""
        self._content.will_need(
            [(m.header_offset, m.offset + m.stored_size - m.header_offset) for m in members]
        )

    def counted(self) -> Counted:
        """Return the requests that it took since it was opened."""
        return counted(self.file)

    def check_open(self) -> None:
        """Compare size and tag of the open file; in a bucket that costs no request.

        Raises:
            ArchiveChanged: It is not what was verified.
        """
        self._compare(self.file.stat)

    def check(self) -> None:
        """Compare size and tag of the open file, and of what its name leads to."""
        self.check_open()
        self._compare(self.file.current_stat())

    def _compare(self, found: Stat | None) -> None:
        expected = self._verified
        if found != expected:
            raise ArchiveChanged(
                f"{self._location} changed since it was verified",
                expected=f"{expected.size:,} bytes, tag {expected.tag}",
                found=f"{found.size:,} bytes, tag {found.tag}" if found else "nothing",
                remedy="Run again to index it anew; leave archives alone while a run uses them",
            )


class OpenFolder:
    """An archive that is unpacked, to class tars or to images; see ``OpenArchive``.

    Args:
        name: Its name in the index.
        root: The folder.
    """

    looks_into_tars = True
    by_request = False

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def listed(self) -> Iterator[pa.Table]:
        """Yield the files, class tars among them."""
        return tabulated(list_folder(self._root, self.name))

    def inside(
        self, tars: Iterable[ClassTar], *, tolerant: bool = False
    ) -> Generator[Inside, None, None]:
        """Yield what class tars hold."""
        return list_inside(tars, partial(open_in_folder, self._root), self.name, tolerant=tolerant)

    def read(self, member: Member) -> bytes:
        """Return a file's content, size and mtime (or its class tar's) being those of the index."""
        if is_in_class_tar(member):
            return read_in_folder(self._root, member, self.name)
        return read_folder_member(self._root, member)

    def will_need(self, members: Sequence[Member]) -> None:
        """Ask for read-ahead of files, or of their parts of class tars."""
        for member in members:
            if is_in_class_tar(member):
                will_need_in_folder(self._root, member)
            else:
                will_need_file(self._root / member.name)

    def counted(self) -> Counted:
        """Return that no request was made."""
        return Counted()

    def check(self) -> None:
        """Make sure that the folder is there; its files are checked as they are read."""
        if not self._root.is_dir():
            raise ArchiveChanged(f"{self._root} is gone", remedy="Restore it, then run again")
