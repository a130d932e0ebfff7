"""Where the archives of a build are, and opening them while they may not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.opened import OpenArchive, OpenFile, OpenFolder
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.receipts import Receipt
from imagenet_etl.storage import Stat, Storage, open_local

__all__ = ["ArchiveRef", "OpenArchive", "OpenedArchives", "archives_of", "open_archive"]


@dataclass(frozen=True)
class ArchiveRef:
    """A verified archive.

    Attributes:
        name: Its name in the index.
        location: A key of the data folder, or the absolute path or ``s3://`` URI of what is used in
            place.
        size: Bytes when it was verified; for a folder those of all its files.
        tag: mtime or ETag when it was verified; for a folder a digest over that of every file.
        kind: ``zip``, ``tar``, ``tar.gz`` or ``folder``, as it was found to be.
    """

    name: str
    location: str
    size: int
    tag: str
    kind: str = "zip"

    @property
    def verified(self) -> Stat:
        """Its size and tag when it was verified."""
        return Stat(self.size, self.tag)

    def stat(self, storage: Storage) -> Stat | None:
        """Return what is at the location now, None for nothing."""
        if not self.location.startswith("/"):
            place, key = _resolved(storage, self.location)
            return place.stat(key)
        path = Path(self.location)
        try:
            state = path.stat()
        except OSError:
            return None
        if self.kind == FOLDER:
            # Its files are looked at one by one when they are read: there may be a million.
            return self.verified if path.is_dir() else None
        return Stat(state.st_size, str(state.st_mtime_ns))

    def is_unchanged(self, storage: Storage) -> bool:
        """Return whether size and tag are those that were verified; of a folder, that it exists."""
        return self.stat(storage) == self.verified


def _resolved(storage: Storage, location: str) -> tuple[Storage, str]:
    """Return the storage and the key of what is used in place in a bucket, or of a key."""
    if not location.startswith("s3://"):
        return storage, location
    place, _, key = location.rpartition("/")
    return storage.at(place), key


def archives_of(receipt: Receipt) -> dict[str, ArchiveRef]:
    """Return the archives that a download receipt vouches for, by name."""
    return {name: ArchiveRef(**ref) for name, ref in receipt.facts["archives"].items()}


@contextmanager
def open_archive(storage: Storage, ref: ArchiveRef) -> Iterator[OpenArchive]:
    """Open a verified archive; the caller checks it again before it calls its work done.

    Raises:
        ArchiveChanged: It is gone or is not the file that was verified.
    """
    path = Path(ref.location)
    if ref.kind == FOLDER:
        folder = OpenFolder(ref.name, path)
        folder.check()
        yield folder
        return
    try:
        place, key = _resolved(storage, ref.location)
        with open_local(path) if path.is_absolute() else place.open(key) as file:
            archive = OpenFile(ref.name, ref.location, ref.kind, file, ref.verified)
            archive.check_open()
            yield archive
    except FileNotFoundError as error:
        if ref.stat(storage) is not None:
            raise
        raise ArchiveChanged(f"{ref.location} is gone", remedy="Run again to fetch it") from error


class OpenedArchives:
    """Archives that are opened when the first member is asked for, most by a request to a bucket.

    Args:
        storage: Where their locations lead from.
        refs: All archives, by name.
        stack: Closes those that are opened; the caller checks them before.

    Attributes:
        opened: Those that are open, by name.
    """

    def __init__(self, storage: Storage, refs: Mapping[str, ArchiveRef], stack: ExitStack) -> None:
        self._storage = storage
        self._refs = refs
        self._stack = stack
        self.opened: dict[str, OpenArchive] = {}

    def __getitem__(self, name: str) -> OpenArchive:
        """Return an archive.

        Raises:
            ArchiveChanged: It is gone or is not the file that was verified.
        """
        if name not in self.opened:
            archive = open_archive(self._storage, self._refs[name])
            self.opened[name] = self._stack.enter_context(archive)
        return self.opened[name]
