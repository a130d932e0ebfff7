"""Storages for tests, described in a word so that child processes can open the same one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.moto_server import MotoServer

from imagenet_etl.storage import LocalStorage, Storage

KINDS = ("folder", "bucket")


def describe_new(kind: str, folder: Path, moto: MotoServer) -> str:
    """Return the description of an empty storage."""
    if kind == "folder":
        return str(folder / "data")
    return f"{moto.url} {moto.bucket(f'b-{uuid.uuid4().hex}')}/some/prefix"


def open_described(description: str) -> Storage:
    """Open what ``describe_new`` described."""
    server, _, uri = description.partition(" ")
    if not uri:
        return LocalStorage(Path(description))
    from imagenet_etl.storage.s3 import S3Storage  # slow to import

    return S3Storage(MotoServer(server).client("s3", max_pool_connections=32), uri)


@contextmanager
def opened(description: str) -> Iterator[Storage]:
    """Open a storage and remove its staging folder at the end."""
    storage = open_described(description)
    try:
        yield storage
    finally:
        storage.close_staging()


def staged(storage: Storage, data: bytes, name: str = "finished") -> Path:
    """Write a file to the staging folder, ready to be published."""
    path = storage.staging() / name
    path.write_bytes(data)
    return path


def keys(storage: Storage, prefix: str) -> list[str]:
    """Return the keys below a prefix in the order that the storage lists them."""
    return [key for key, _ in storage.list(prefix)]
