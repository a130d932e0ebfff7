"""The contract that every record format keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


@dataclass(frozen=True)
class Record:
    """One image on its way into a format.

    Attributes:
        key: Its number in sorted order within the split, im2rec's index.
        label: Its class, counted from 0.
        wnid: Its class as a WordNet id.
        file_name: Its file name.
        data: A complete image file.
        sha256: Hex digest of ``data``.
    """

    key: int
    label: int
    wnid: str
    file_name: str
    data: bytes
    sha256: str

    @property
    def path(self) -> str:
        """The path below the split's folder, as im2rec's lists give it."""
        return f"{self.wnid}/{self.file_name}"


@dataclass(frozen=True)
class Placed:
    """Where a record's image ended up.

    Attributes:
        name: File name relative to the format's folder of the split.
        offset: Byte at which its record starts.
        size: Bytes that the record takes up in the file.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Written:
    """A finished file, hashed while it was written.

    Attributes:
        path: Where it is in staging; below the writer's folder it has its final relative name.
        size: Bytes.
        sha256: Hex digest.
    """

    path: Path
    size: int
    sha256: str


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
