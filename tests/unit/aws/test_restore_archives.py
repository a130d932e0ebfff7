"""Archives come back from the backup, and none that is here and verified is replaced."""

import logging
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import CONTENT, OTHER, quick
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_archive, sha256_of

from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_restore_archives import newest_mark, restore_archive
from imagenet_etl.aws.s3_restore_find import archives_held
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.notes import Note
from imagenet_etl.errors import ChecksumMismatch, CloudNotFound
from imagenet_etl.leases import Owner

DATASET, NAME = "imagenet_fall11", "fall11_whole.tar"
OLD, NEW = sorted((CONTENT, OTHER), key=sha256_of)  # of the same second: the greater is the newer
TAR = tarfile.TarInfo("n00000001.tar").tobuf() + bytes(1024)


@pytest.fixture
def client(moto: MotoServer) -> Any:
    moto.bucket("backups")
    return moto.client("s3")


@pytest.fixture
def build(tmp_path: Path, moto: MotoServer) -> Build:
    settings = Settings(dataset=DATASET, data_dir=str(tmp_path), s3_uri=BACKUP)
    return new_build(settings, Owner("run-1"), moto.client)


@pytest.fixture
def mirror() -> Iterator[FaultServer]:
    with FaultServer(TAR) as running:
        yield running


def back_up(client: Any, content: bytes, source: str = "/nfs/old.tar") -> None:
    back_up_archive(client, content, source, name=NAME, dataset=DATASET, kind="tar")


def restored(build: Build) -> tuple[Note, int]:
    return restore_archive(build, newest_mark(build, NAME), quick())


def path_of(build: Build) -> Path:
    return Path(build.settings.data_dir, "archives", DATASET, NAME)


def test_the_newest_of_a_name_comes_back(build: Build, client: Any) -> None:
    back_up(client, OLD)
    back_up(client, NEW)
    assert restored(build)[1] == len(NEW)
    assert path_of(build).read_bytes() == NEW
    assert restored(build)[1] == 0


def test_a_verified_archive_stays_though_the_backup_has_another(
    build: Build, mirror: FaultServer, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    back_up(client, OTHER, "/nfs/old.tar")
    facts = build.facts.archive(NAME)
    plain = replace(build, settings=replace(build.settings, sources={NAME: mirror.url}))
    note = verified_archive(plain, facts, quick())[0]
    assert restored(build) == (note, 0)
    assert path_of(build).read_bytes() == TAR
    assert "so it stays; the one in the backup is another" in caplog.text


def test_what_an_older_restore_brought_stays(build: Build, client: Any) -> None:
    back_up(client, OLD)
    restored(build)
    back_up(client, NEW)
    assert restored(build)[1] == 0
    assert path_of(build).read_bytes() == OLD


def test_a_file_that_nothing_vouches_for_is_not_replaced(build: Build, client: Any) -> None:
    back_up(client, CONTENT)
    path_of(build).parent.mkdir(parents=True)
    path_of(build).write_bytes(TAR)
    with pytest.raises(ChecksumMismatch):
        restored(build)
    assert path_of(build).read_bytes() == TAR


def test_a_copy_without_a_note_is_taken_over(build: Build, client: Any) -> None:
    back_up(client, TAR)
    path_of(build).parent.mkdir(parents=True)
    path_of(build).write_bytes(TAR)
    note, count = restored(build)
    assert (note.sha256, count) == (sha256_of(TAR), 0)


def test_archives_are_told_once_each_and_indexes_are_none(client: Any) -> None:
    back_up(client, OLD)
    back_up(client, NEW)
    place = backup_place(BACKUP, DATASET)
    client.put_object(Bucket="backups", Key=f"{place.index('0' * 64)}/receipt.json", Body=b"{}")
    assert archives_held(client, place) == [NAME]


def test_what_is_not_backed_up_is_told(build: Build, client: Any) -> None:
    with pytest.raises(CloudNotFound, match="is not backed up"):
        newest_mark(build, NAME)
