"""Where each format's files lie in a dataset version, and which writer makes them."""

from __future__ import annotations

from pathlib import Path

from imagenet_etl.records.base import RecordWriter
from imagenet_etl.records.imagefolder import ImageFolderWriter
from imagenet_etl.records.recordio import RecordIoWriter

LOOSE_FORMATS = frozenset({"imagefolder"})
"""Formats of one file an image: flushed together, listed in ``<format>/files.parquet``."""


def loose_table(output: str) -> str:
    """Return the name of the table that lists a loose format's files."""
    return f"{output}/files.parquet"


def shard_name(split: str, shard: int) -> str:
    """Return a shard's name without a suffix."""
    return f"{split}_{shard:05d}"


def writer_for(output: str, folder: Path, name: str) -> RecordWriter:
    """Return the writer of a format.

    Args:
        output: The format.
        folder: Staging folder that stands for ``<format>/<split>``.
        name: Base name of its files, for formats that have shards.
    """
    if output == "recordio":
        return RecordIoWriter(folder, name)
    if output == "imagefolder":
        return ImageFolderWriter(folder)
    raise ValueError(output)
