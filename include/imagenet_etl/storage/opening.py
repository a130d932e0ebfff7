"""A data folder's storage, by what its name says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagenet_etl.errors import ConfigError
from imagenet_etl.storage.base import Storage
from imagenet_etl.storage.local import LocalStorage

_DIRECTORY_BUCKET = "--x-s3"
"""How their names end: Amazon S3 User Guide, "Directory bucket naming rules"."""


def open_storage(
    data_dir: str, s3: Callable[[], Any], staging_within: Path | None = None
) -> Storage:
    """Return the storage of a data folder.

    Args:
        data_dir: An absolute path, or the ``s3://`` URI of a bucket or of a prefix in one.
        s3: Makes a boto3 client of S3; called for a bucket alone.
        staging_within: A folder in the staging of the process that this one works for.

    Raises:
        ConfigError: It is another kind of URL, or a directory bucket.
    """
    if data_dir.startswith("s3://"):
        if data_dir.split("/")[2].endswith(_DIRECTORY_BUCKET):
            raise ConfigError(
                f"data folder {data_dir!r} is in a directory bucket (S3 Express One Zone)",
                expected="a general purpose bucket, which lists its keys in order",
                remedy="Give a bucket whose name has no such ending",
            )
        from imagenet_etl.storage.s3 import S3Storage  # noqa: PLC0415 - slow to import

        return S3Storage(s3(), data_dir, staging_within)
    if "://" in data_dir:
        raise ConfigError(
            f"data folder {data_dir!r}",
            expected="a path, or an s3:// URI",
            remedy="Give a mounted folder or a bucket",
        )
    return LocalStorage(Path(data_dir), staging_within)
