"""Backups as the bucket holds them, made by hand, so that a restore is tested by itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.downloads import FACTS

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark, write_mark
from imagenet_etl.build import Build
from imagenet_etl.receipts import Receipt

BACKUP = "s3://backups/sets"


def sha256_of(content: bytes) -> str:
    """Return a SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def place_of(dataset: str = "tiny_imagenet") -> BackupPlace:
    """Return the dataset's part of ``BACKUP``."""
    return backup_place(BACKUP, dataset)


def back_up_archive(
    client: Any,
    content: bytes,
    source: str,
    *,
    name: str = FACTS.name,
    dataset: str = "tiny_imagenet",
    **mark: Any,
) -> ArchiveMark:
    """Put an archive and its commit mark into the bucket; ``mark`` replaces fields of that."""
    place = place_of(dataset)
    digests = {n: hashlib.new(n, content).hexdigest() for n in ("md5", "sha256")}
    told = replace(ArchiveMark(name, len(content), digests, "zip", source), **mark)
    client.put_object(Bucket=place.bucket, Key=place.archive(name, told.sha256), Body=content)
    write_mark(client, place, told)
    return told


def back_up_folder(client: Any, folder: Path, dataset: str = "tiny_imagenet") -> None:
    """Put a published version into the bucket, its manifest last."""
    place = place_of(dataset)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.name == "manifest.json"):
        key = f"{place.version(folder.name)}/{path.relative_to(folder).as_posix()}"
        client.put_object(Bucket=place.bucket, Key=key, Body=path.read_bytes())


def back_up_index(client: Any, build: Build, receipt: Receipt) -> str:
    """Put an image index into the bucket, its receipt last; return its prefix there."""
    place = place_of(build.facts.name)
    prefix = place.index(receipt.stage_digest)
    for output in receipt.outputs:
        content = build.storage.read(receipt.key_of(output.name))
        client.put_object(Bucket=place.bucket, Key=f"{prefix}/{output.name}", Body=content)
    client.put_object(Bucket=place.bucket, Key=f"{prefix}/receipt.json", Body=receipt.to_json())
    return prefix
