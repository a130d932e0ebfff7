"""Random access to RecordIO files through memory maps."""

from __future__ import annotations

import glob
import mmap
import resource
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Self, overload

from imagenet_etl.errors import ConfigError
from imagenet_etl.readers.shard import Shard, open_shard
from imagenet_etl.records.recordio import UnpackedImage

_MOST_MAPS = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
"""How many files are mapped at a time: each map holds one of the process's descriptors."""


class RecordIoReader(Sequence[UnpackedImage]):
    """The records of one ``.rec`` or many, each with its ``.idx`` beside it, as one sequence.

    Items are in the order of the indexes. Each holds ``labels`` (one or several floats), ``key``
    (the number that im2rec gave the image) and ``image`` (the bytes of an image file). A slice and
    a ``shard`` are readers too and read nothing yet.

    Threads and forked workers may share a reader. It can be pickled, so spawned workers get one as
    well: the offsets travel along, the maps are made anew.

    Memory: 8 bytes a record, beside what the page cache holds.

    Args:
        paths: The ``.rec`` file, or several.

    Raises:
        ConfigError: A ``.rec`` does not exist.
        DatasetDamaged: An index is missing, or does not fit its file.
        RecordError: An index is malformed; while reading also: a record is.
    """

    def __init__(self, paths: str | Path | Iterable[str | Path]) -> None:
        if isinstance(paths, str | Path):
            paths = [paths]
        self._shards = [open_shard(Path(path)) for path in paths]
        self._starts = [0, *accumulate(len(shard.offsets) for shard in self._shards)]
        self._rows = range(self._starts[-1])
        self._maps = _Maps(self._shards)

    @property
    def paths(self) -> list[Path]:
        """Return the ``.rec`` files, in order."""
        return [shard.path for shard in self._shards]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> UnpackedImage: ...

    @overload
    def __getitem__(self, number: slice) -> Self: ...

    def __getitem__(self, number: int | slice) -> UnpackedImage | Self:
        if isinstance(number, slice):
            part = copy(self)
            part._rows = self._rows[number]
            return part
        row = self._rows[number]
        shard = bisect_right(self._starts, row) - 1
        return self._shards[shard].read(self._maps.of(shard), row - self._starts[shard])

    def __iter__(self) -> Iterator[UnpackedImage]:
        return (self[number] for number in range(len(self)))

    def shard(self, index: int, count: int) -> Self:
        """Return one of ``count`` parts that together hold each record once.

        Parts are runs of neighbouring records, so each worker reads its own stretch of the disk;
        their lengths differ by one at most.

        Raises:
            ConfigError: ``index`` is not one of 0 to ``count`` - 1.
        """
        if not 0 <= index < count:
            raise ConfigError(f"shard {index} of {count}", expected=f"one of 0 to {count - 1}")
        return self[len(self) * index // count : len(self) * (index + 1) // count]


class _Maps:
    """The maps of files, made when first asked for; of many files only the latest stay open.

    Pickling leaves the maps behind, for they belong to their process.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self.of = lru_cache(_MOST_MAPS)(self._open)

    def __reduce__(self) -> tuple[type[_Maps], tuple[Sequence[Shard]]]:
        return _Maps, (self._shards,)

    def _open(self, number: int) -> mmap.mmap:
        return self._shards[number].map()


def open_records(place: str | Path) -> RecordIoReader:
    """Open all ``.rec`` files of a folder, or those that a pattern matches, as one sequence.

    Args:
        place: A folder such as ``<version>/recordio/train``, a pattern such as
            ``train/train_0000*.rec``, or a single ``.rec``. Files come in sorted order.

    Raises:
        ConfigError: There are no such files.
        DatasetDamaged: An index is missing, or does not fit its file.
        RecordError: An index is malformed.
    """
    path = Path(place)
    if path.is_file():
        paths = [path]
    elif path.is_dir():
        paths = list(path.glob("*.rec"))
    else:
        paths = [Path(name) for name in glob.glob(str(place))]  # noqa: PTH207 (may be absolute)
    found = sorted(path for path in paths if path.suffix == ".rec")
    if not found:
        raise ConfigError(
            f"no records at {place}",
            expected="a folder with .rec files, a pattern or a .rec file",
            found="nothing of the kind",
            remedy="Give for example <version>/recordio/train",
        )
    return RecordIoReader(found)
