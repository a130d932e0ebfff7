"""Class tars that lie in a folder: walked and read where they are, while they may not change."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from imagenet_etl.archives.class_tars import ClassTar, Span
from imagenet_etl.archives.folder import OPEN_FLAGS, file_changed
from imagenet_etl.archives.member import Member
from imagenet_etl.archives.tar import read_tar_member
from imagenet_etl.errors import ArchiveChanged, ArchiveError
from imagenet_etl.storage.local_file import LocalFile

_SUFFIX = ".tar/"


def stamp_of(size: int, mtime_ns: int) -> int:
    """Return 31 bits that tell one state of a file from another."""
    return zlib.crc32(b"%d:%d" % (size, mtime_ns)) & 0x7FFFFFFF


@contextmanager
def open_in_folder(root: Path, tar: ClassTar) -> Iterator[Span]:
    """Open a class tar of a folder that has to stay as it was listed until the block ends.

    Raises:
        ArchiveChanged: It is gone, is another file, or changed meanwhile.
    """
    stamp = stamp_of(tar.size, tar.check)
    with _opened(root / tar.name) as file:
        file.check(stamp)
        try:
            yield Span(file, 0, tar.size, stamp)
        except ArchiveError:
            file.check(stamp)  # what was cut while it was walked is not to blame for it
            raise
        file.check(stamp)


def is_in_class_tar(member: Member) -> bool:
    """Return whether a member of a folder lies in a class tar: a file of its own has no header."""
    return member.offset > 0


def read_in_folder(root: Path, member: Member, archive: str) -> bytes:
    """Read a member of a class tar that is the file of the index, before and after.

    Raises:
        ArchiveChanged: It is not.
    """
    stamp = member.check >> 32
    with _opened(_class_tar_of(root, member)) as file:
        file.check(stamp)
        try:
            inside = replace(member, check=member.check & 0xFFFFFFFF)
            data = read_tar_member(file, inside, archive)
        finally:
            file.check(stamp)
    return data


def will_need_in_folder(root: Path, member: Member) -> None:
    """Ask for read-ahead of a member; a class tar that is gone is noticed when it is read."""
    with suppress(OSError, ArchiveChanged), _opened(_class_tar_of(root, member)) as file:
        span = member.offset + member.stored_size - member.header_offset
        file.will_need([(member.header_offset, span)])


def _class_tar_of(root: Path, member: Member) -> Path:
    name, suffix, _ = member.name.partition(_SUFFIX)
    return root / (name + suffix.rstrip("/"))


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError) and not path.is_symlink():
            raise
        found = "a link" if path.is_symlink() else "nothing"
        raise file_changed(path, found) from error
    try:
        yield _File(path, fd)
    finally:
        os.close(fd)


class _File(LocalFile):
    """An open class tar."""

    def __init__(self, path: Path, fd: int) -> None:
        super().__init__(str(path), fd)
        self._where = path
        self._descriptor = fd

    def check(self, stamp: int) -> None:
        """Make sure that it is in the state that the stamp is of."""
        state = os.fstat(self._descriptor)
        now = stamp_of(state.st_size, state.st_mtime_ns)
        if now != stamp or not stat.S_ISREG(state.st_mode):
            found = f"{state.st_size:,} bytes, mtime {state.st_mtime_ns} ns"
            raise file_changed(self._where, found)
