"""Runs of the download whose data folder is in a bucket, over moto."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import Any

from tests.support.downloads import FACTS, quick
from tests.support.moto_server import MotoServer

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.leases import Owner

DATA = "s3://sets/lab/data"
KIB = 1 << 10
PART = 256 * KIB


def bucket_build(moto: MotoServer, source: str = "", **settings: Any) -> Build:
    """Return a build of a new run in ``DATA``, with one source for the dataset's archive."""
    sources = {FACTS.name: source} if source else {}
    chosen = Settings(
        dataset="tiny_imagenet", data_dir=DATA, sources=sources,
        **{"expect": "any"} | settings,
    )  # fmt: skip
    return new_build(chosen, Owner(f"run-{random.randbytes(4).hex()}"), moto.client)


def got(build: Build, slice_s: float | None = None) -> tuple[Note, int]:
    """Return the note of the archive that the settings ask for, and how much was fetched."""
    return verified_archive(replace(build, slice_s=slice_s), FACTS, quick())


def content_at(build: Build, note: Note) -> bytes:
    """Return what an archive holds, wherever it is."""
    location = note.archive.location
    if not location.startswith("s3://"):
        return build.storage.read(location) or b""
    place, _, key = location.rpartition("/")
    return build.storage.at(place).read(key) or b""


def keys_below(build: Build, prefix: str) -> list[str]:
    """Return what is below a prefix of the data folder, without the leases' own."""
    return [key for key, _ in build.storage.list(prefix) if "/locks/" not in key]


def sha256_of(content: bytes) -> str:
    """Return a SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()
