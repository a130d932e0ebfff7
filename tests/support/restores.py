"""Backups as the bucket holds them, made by hand, so that a restore is tested by itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.builds import tiny_build
from tests.support.downloads import FACTS, OTHER, SHA256, Run, quick
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.aws.s3_marks import ArchiveMark, write_mark
from imagenet_etl.aws.s3_restore import Restored, read_backed_up, restore_version
from imagenet_etl.build import Build
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.receipts import Receipt

BACKUP = "s3://backups/sets"
OLD = OTHER[:-100]
"""An archive of another length than ``CONTENT`` and ``OTHER``."""


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


def asks(run: Run, url: str, aws: Any, **settings: Any) -> Build:
    """Return a build of a run that has the backup; ``aws`` makes its clients."""
    build = run.build(url, aws=aws)
    return replace(build, settings=replace(build.settings, s3_uri=BACKUP, **settings))


def got(build: Build) -> Note:
    """Return the note of the archive that the settings ask for."""
    return verified_archive(build, FACTS, quick())[0]


def content_of(build: Build, note: Note) -> bytes:
    """Return what a fetched archive holds."""
    path = build.storage.local_path(note.archive.location)
    assert path is not None
    return path.read_bytes()


def proven(server: FaultServer) -> str:
    """Return the URL of a server with the digest of ``CONTENT``."""
    return f"{server.url}#sha256={SHA256}"


def fresh_machine(folder: Path, server: MotoServer) -> Build:
    """Return a build of an empty data folder below ``folder``, which has the backup."""
    return replace(tiny_build(folder / "fresh", s3_uri=BACKUP, version="v1"), aws=server.client)


def restored_version(build: Build, **options: Any) -> Restored:
    """Restore version ``v1``; ``options`` are those of ``restore_version``."""
    with build.locked() as locked:
        backed_up = read_backed_up(locked, "v1")
        return restore_version(locked, backed_up, 4, quick, **options)
