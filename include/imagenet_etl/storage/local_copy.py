"""A stored object as a file of this machine, for what can only read files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagenet_etl.storage.base import Storage


@contextmanager
def local_copy(storage: Storage, key: str) -> Iterator[Path]:
    """Give an object's path: its own on a disk, that of a copy in the staging folder for a bucket.

    The copy takes the object's size of room there, and is removed at the end.

    Raises:
        FileNotFoundError: There is no such key in the bucket.
    """
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    copy = storage.staging() / uuid.uuid4().hex
    try:
        with storage.open(key) as source, copy.open("wb") as file:
            for block in source.blocks():
                file.write(block)
        yield copy
    finally:
        copy.unlink(missing_ok=True)
