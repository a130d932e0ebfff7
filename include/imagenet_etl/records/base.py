"""The contract that every record format keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

import numpy as np

from imagenet_etl.streams import Written

__all__ = ["Content", "LooseFile", "Origin", "Placed", "Record", "RecordWriter", "Written"]


@dataclass(frozen=True, slots=True)
class Origin:
    """A file of an unpacked source that an image equals byte for byte.

    Attributes:
        path: Where it lies.
        size: Bytes, when it was indexed.
        mtime_ns: Its mtime then.
        hardlink: Whether a loose file shall be a link to it.
    """

    path: Path
    size: int
    mtime_ns: int
    hardlink: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One image on its way into a format.

    Attributes:
        key: Its number in sorted order within the split, im2rec's index.
        position: Its number in packing order within the split.
        label: Its class, counted from 0.
        wnid: Its class as a WordNet id.
        file_name: Its file name in the archive.
        data: A complete image file.
        sha256: Hex digest of ``data``.
        width: Pixels.
        height: Pixels.
        suffix: ``.jpg`` or ``.png``, what ``data`` is.
        pixels: The image as (height, width, 3) uint8 RGB, for formats that ask for it.
        origin: The file that ``data`` was read from, if nothing was changed.
    """

    key: int
    position: int
    label: int
    wnid: str
    file_name: str
    data: bytes
    sha256: str
    width: int
    height: int
    suffix: str = ".jpg"
    pixels: np.ndarray | None = None
    origin: Origin | None = None

    @property
    def path(self) -> str:
        """The path below the split's folder, as im2rec's and Caffe's lists give it."""
        return f"{self.wnid}/{self.file_name}"

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return PurePosixPath(self.file_name).stem


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a record's image ended up.

    Attributes:
        name: File name relative to the format's folder of the split.
        offset: Byte at which its record starts; in LMDB the number in its key.
    """

    name: str
    offset: int


@dataclass(frozen=True)
class LooseFile(Written):
    """A finished file of one image, whose name in staging means nothing.

    Attributes:
        name: Its final name, relative to the format's folder of the split.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a format's record says: its label, its image file, and where the format has one, a key.

    ``key`` is None for formats that do not hold im2rec's number.
    """

    label: float
    image: bytes | memoryview
    key: int | None = None


class RecordWriter(Protocol):
    """Writes one segment into staging; leaving the block without ``commit`` discards it."""

    def __enter__(self) -> Self:
        """Create the files."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; without a commit, remove the files."""

    def write(self, record: Record) -> Placed:
        """Append a record."""

    def commit(self) -> list[Written]:
        """Finish and return the files, complete on this machine but not yet flushed."""
