"""Records as a map-style dataset of PyTorch, which is no dependency of this project."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from imagenet_etl.errors import ConfigError, RecordError
from imagenet_etl.readers.recordio import RecordIoReader, open_records

try:
    from torch.utils.data import Dataset  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    Dataset = None


def decode_rgb(data: bytes) -> Image.Image:
    """Decode an image file with Pillow to RGB.

    Raises:
        OSError: It cannot be decoded.
    """
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


class RecordIoDataset(Dataset or object):  # type: ignore[misc,valid-type,unused-ignore]
    """Pairs of image and class out of RecordIO files, for ``torch.utils.data.DataLoader``.

    Works with any number of forked or spawned loader workers. An item is ``(image, label)``; the
    label is an ``int``, or a tuple of floats for records that have several.

    Args:
        records: What ``open_records`` takes, or a reader, for example ``reader.shard(0, 8)``.
        transform: Called on the decoded image; without one, items hold Pillow images, which
            PyTorch's default collation refuses.
        decode: Makes an image of a file's bytes; by default Pillow, to RGB.

    Raises:
        ConfigError: PyTorch is not installed, or there are no such files.
        DatasetDamaged: An index is missing, or does not fit its file.
        RecordError: A record cannot be read or decoded.
    """

    def __init__(
        self,
        records: str | Path | RecordIoReader,
        transform: Callable[[Any], Any] | None = None,
        *,
        decode: Callable[[bytes], Any] = decode_rgb,
    ) -> None:
        if Dataset is None:
            raise ConfigError(
                "RecordIoDataset stands on PyTorch, which is not installed",
                remedy="pip install torch, or use RecordIoReader, which needs nothing",
            )
        super().__init__()
        self.records = records if isinstance(records, RecordIoReader) else open_records(records)
        self._transform = transform
        self._decode = decode

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> tuple[Any, int | tuple[float, ...]]:
        record = self.records[number]
        try:
            image = self._decode(record.image)
        except OSError as error:
            raise RecordError(
                f"the image with key {record.key}, item {number}, cannot be decoded", found=error
            ) from error
        if self._transform is not None:
            image = self._transform(image)
        return image, int(record.labels[0]) if len(record.labels) == 1 else record.labels
