"""Where the archives of a build are, and reading them while they may not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.archives.member import Member
from imagenet_etl.archives.zip import read_zip_member
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.receipts import Receipt
from imagenet_etl.storage import ReadAt, Stat, Storage, open_local


@dataclass(frozen=True)
class ArchiveRef:
    """A verified archive.

    Attributes:
        name: Its name in the index.
        location: A key of the data folder, or the absolute path of a file used in place.
        size: Bytes when it was verified.
        tag: mtime or ETag when it was verified.
    """

    name: str
    location: str
    size: int
    tag: str

    def stat(self, storage: Storage) -> Stat | None:
        """Return what is at the location now, None for nothing."""
        if not self.location.startswith("/"):
            return storage.stat(self.location)
        try:
            state = Path(self.location).stat()
        except OSError:
            return None
        return Stat(state.st_size, str(state.st_mtime_ns))

    def is_unchanged(self, storage: Storage) -> bool:
        """Return whether size and tag are those that were verified."""
        return self.stat(storage) == Stat(self.size, self.tag)


def archives_of(receipt: Receipt) -> dict[str, ArchiveRef]:
    """Return the archives that a download receipt vouches for, by name."""
    return {name: ArchiveRef(**ref) for name, ref in receipt.facts["archives"].items()}


class OpenArchive:
    """An archive that is checked when it is opened, at each read, and when it is closed."""

    def __init__(self, ref: ArchiveRef, file: ReadAt) -> None:
        self.ref = ref
        self.file = file

    def read(self, member: Member) -> bytes:
        """Return a member's content.

        Raises:
            ArchiveChanged: Its header is not the indexed one.
            BadImage: Its content is damaged.
        """
        return read_zip_member(self.file, member, self.ref.name)

    def will_need(self, member: Member) -> None:
        """Ask for read-ahead of a member with its header."""
        span = member.offset + member.stored_size - member.header_offset
        self.file.will_need(member.header_offset, span)

    def check(self) -> None:
        """Make sure that neither the open file nor what its name leads to has changed.

        Raises:
            ArchiveChanged: Either has.
        """
        expected = Stat(self.ref.size, self.ref.tag)
        for found in (self.file.stat, self.file.current_stat()):
            if found != expected:
                raise ArchiveChanged(
                    f"{self.ref.location} changed since it was verified",
                    expected=f"{expected.size:,} bytes, tag {expected.tag}",
                    found=f"{found.size:,} bytes, tag {found.tag}" if found else "nothing",
                    remedy="Run again to index it anew; leave archives alone while a run uses them",
                )


@contextmanager
def open_archive(storage: Storage, ref: ArchiveRef) -> Iterator[OpenArchive]:
    """Open a verified archive; the caller checks it again before it calls its work done.

    Raises:
        ArchiveChanged: It is gone or is not the file that was verified.
    """
    path = Path(ref.location)
    try:
        opening = open_local(path) if path.is_absolute() else storage.open(ref.location)
        with opening as file:
            archive = OpenArchive(ref, file)
            archive.check()
            yield archive
    except FileNotFoundError as error:
        if ref.stat(storage) is not None:
            raise
        raise ArchiveChanged(f"{ref.location} is gone", remedy="Run again to fetch it") from error
