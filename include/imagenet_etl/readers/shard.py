"""One ``.rec`` with the ``.idx`` beside it: where its records start, and its memory map."""

from __future__ import annotations

import mmap
from array import array
from dataclasses import dataclass
from pathlib import Path

from imagenet_etl.errors import ConfigError, DatasetDamaged, RecordError
from imagenet_etl.records.recordio import UnpackedImage, read_frame, read_index, unpack_image

_REMEDY = "Restore the file, or prepare the dataset again"


@dataclass(frozen=True)
class Shard:
    """A checked ``.rec``; nothing of it stays open, so it can be sent to other processes.

    Attributes:
        path: The ``.rec``.
        size: Its bytes when it was checked.
        offsets: Where each record starts, in the order of the index.
    """

    path: Path
    size: int
    offsets: array[int]

    def map(self) -> mmap.mmap:
        """Map the whole file for reading; it must hold at least one record.

        Raises:
            DatasetDamaged: The file is gone, or has another size than before. Reading a map
                beyond the end of its file would end the process.
        """
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
            raise self._changed("nothing") from None
        if len(mapped) != self.size:
            raise self._changed(f"{len(mapped):,}")
        return mapped

    def _changed(self, found: str) -> DatasetDamaged:
        return DatasetDamaged(
            f"{self.path} has changed since it was opened",
            expected=f"{self.size:,} bytes",
            found=found,
            remedy=_REMEDY,
        )

    def read(self, mapped: mmap.mmap, number: int) -> UnpackedImage:
        """Return one record of the file that ``map`` gave.

        Raises:
            RecordError: There is no whole record.
        """
        try:
            return unpack_image(read_frame(mapped, self.offsets[number])[0])
        except RecordError as error:
            raise RecordError(f"{self.path}: {error.what}", remedy=_REMEDY) from error


def open_shard(path: Path) -> Shard:
    """Read the index of a ``.rec`` and check that both belong together.

    The last record has to end where the file ends, which shows a file that was cut, that grew, or
    that stands beside another one's index.

    Raises:
        ConfigError: There is no such file.
        DatasetDamaged: The index is missing, or does not fit the file.
        RecordError: The index or the last record is malformed.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"there is no {path}", expected="a .rec file") from None
    shard = Shard(path, size, _read_offsets(path.with_suffix(".idx")))
    if not _fits(shard):
        raise DatasetDamaged(
            f"{path} does not fit the .idx beside it",
            expected=f"{len(shard.offsets):,} records that begin at byte 0 and end with the file",
            found=f"a file of {size:,} bytes",
            remedy=_REMEDY,
        )
    return shard


def _read_offsets(path: Path) -> array[int]:
    try:
        text = path.read_text("ascii", "replace")
        return array("q", (at for _, at in read_index(text)))
    except FileNotFoundError:
        raise DatasetDamaged(f"{path} is missing", remedy=_REMEDY) from None
    except (RecordError, OverflowError) as error:
        raise RecordError(f"{path}: {error}", remedy=_REMEDY) from error


def _fits(shard: Shard) -> bool:
    if not shard.offsets or not shard.size:
        return not shard.offsets and not shard.size
    last = max(shard.offsets)
    if min(shard.offsets) != 0 or last >= shard.size:
        return False
    with shard.map() as mapped:
        shard.read(mapped, shard.offsets.index(last))
        return read_frame(mapped, last)[1] == shard.size
