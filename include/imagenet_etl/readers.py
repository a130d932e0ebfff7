"""Read records back for training, without MXNet."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from imagenet_etl.records.recordio import UnpackedImage, read_frame, read_index, unpack_image


class RecordIoReader(Sequence[UnpackedImage]):
    """Random access to one ``.rec`` by the ``.idx`` beside it, through a memory map.

    Items are in the order of the file. Each holds ``labels`` (one or several floats), ``key`` (the
    number that im2rec gave the image) and ``image`` (the bytes of an image file). Reading changes
    no state, so threads and forked workers may share a reader.

    Args:
        path: The ``.rec`` file.

    Raises:
        FileNotFoundError: The ``.rec`` or its ``.idx`` is missing.
        RecordError: The index is malformed.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._offsets = [at for _, at in read_index(path.with_suffix(".idx").read_text())]
        self._map: mmap.mmap | bytes = b""  # an empty file has no records and cannot be mapped
        if self._offsets:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, number: int) -> UnpackedImage: ...

    @overload
    def __getitem__(self, number: slice) -> list[UnpackedImage]: ...

    def __getitem__(self, number: int | slice) -> UnpackedImage | list[UnpackedImage]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        return unpack_image(read_frame(self._map, self._offsets[number])[0])

    def __iter__(self) -> Iterator[UnpackedImage]:
        return (self[number] for number in range(len(self)))
