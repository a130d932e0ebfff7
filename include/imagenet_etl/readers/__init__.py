"""Read records back for training, without MXNet.

``RecordIoReader`` gives random access to one ``.rec`` or many, ``open_records`` opens a folder or a
pattern of them, ``RecordIoDataset`` stands on top for PyTorch. Torch is imported when, and only
when, the last is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagenet_etl.readers.recordio import RecordIoReader, open_records
from imagenet_etl.records.recordio import UnpackedImage

if TYPE_CHECKING:
    from imagenet_etl.readers.dataset import RecordIoDataset

__all__ = ["RecordIoDataset", "RecordIoReader", "UnpackedImage", "open_records"]


def __getattr__(name: str) -> Any:
    if name == "RecordIoDataset":
        from imagenet_etl.readers.dataset import RecordIoDataset  # noqa: PLC0415 (imports torch)

        return RecordIoDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
