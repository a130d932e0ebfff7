"""The formats: where their files lie in a dataset version, who writes them, how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.records import lmdb, recordio, webdataset
from imagenet_etl.records.base import Content, RecordWriter
from imagenet_etl.records.imagefolder import ImageFolderWriter
from imagenet_etl.records.lmdb import LmdbPartWriter
from imagenet_etl.records.recordio import RecordIoWriter
from imagenet_etl.records.shard import ShardWriter
from imagenet_etl.records.webdataset import WebDatasetWriter

LOOSE, SHARDS, DATABASE = "loose", "shards", "database"


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        name: In settings and paths.
        kind: ``LOOSE`` files, ``SHARDS`` of many records, or one ``DATABASE`` a split.
        writer: Writes a segment, or None for loose files.
        read: Reads one record of a shard or database.
        read_index: Yields key, where the index has keys, and start of each record of a shard, from
            the lines of its index, which is the second of its files.
        end: What follows the last record of a shard.
        folder: Where a split's files lie below the format's folder; ``{}`` stands for the split.
        wants_pixels: Whether its writer uses the pixels of training images of one size.
    """

    name: str
    kind: str
    writer: type[ShardWriter] | None = None
    read: Callable[[bytes | memoryview], Content] | None = None
    read_index: Callable[[Iterable[str]], Iterator[tuple[int | None, int]]] | None = None
    end: bytes = b""
    folder: str = "{}"
    wants_pixels: bool = False

    def open_writer(self, folder: Path, name: str) -> RecordWriter:
        """Return a writer of one segment.

        Args:
            folder: Staging folder that stands for the split's.
            name: Base name of its files, for formats that have shards.
        """
        return self.writer(folder, name) if self.writer else ImageFolderWriter(folder)

    def path(self, split: str, name: str) -> str:
        """Return the path of a split's file below the version's folder."""
        return f"{self.name}/{self.folder.format(split)}/{name}"


FORMATS = {
    item.name: item
    for item in (
        Format("recordio", SHARDS, RecordIoWriter, recordio.read_record,
               recordio.read_index_lines),
        Format("lmdb", DATABASE, LmdbPartWriter, lmdb.read_record, folder="{}_db",
               wants_pixels=True),
        Format("webdataset", SHARDS, WebDatasetWriter, webdataset.read_record,
               webdataset.read_index, webdataset.END),
        Format("imagefolder", LOOSE),
    )
}  # fmt: skip
LOOSE_FORMATS = frozenset(name for name, item in FORMATS.items() if item.kind == LOOSE)
"""Formats of one file an image: flushed together, listed in ``<format>/files.parquet``."""


def loose_table(output: str) -> str:
    """Return the name of the table that lists a loose format's files."""
    return f"{output}/files.parquet"


def shard_name(split: str, shard: int) -> str:
    """Return a shard's name without a suffix."""
    return f"{split}_{shard:05d}"
