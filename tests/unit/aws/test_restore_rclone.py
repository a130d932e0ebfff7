"""A restore from a second S3 server, which shares no code with moto."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.downloads import CONTENT, FACTS, quick
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server
from tests.support.restores import (
    back_up_archive,
    back_up_folder,
    fresh_machine,
    place_of,
    restored_version,
)
from tests.unit.aws.conftest import version_folder

from imagenet_etl.aws.s3_restore_archives import newest_mark, restore_archive
from imagenet_etl.aws.s3_restore_find import archives_held, newest_version
from imagenet_etl.build import Build


@pytest.fixture
def rclone() -> Iterator[MotoServer]:
    with rclone_server() as server:
        server.bucket("backups")
        yield server


@pytest.mark.parametrize("in_ranges_above", [4096, 8 << 20])
def test_a_version_comes_back_from_rclone(
    tmp_path: Path, packed: Build, rclone: MotoServer, in_ranges_above: int
) -> None:
    client = rclone.client("s3")
    back_up_folder(client, version_folder(packed))
    assert newest_version(client, place_of(), "tiny_imagenet") == "v1"
    done = restored_version(fresh_machine(tmp_path, rclone), in_ranges_above=in_ranges_above)
    assert files_below(Path(done.path)) == files_below(version_folder(packed))


def test_an_archive_comes_back_from_rclone(tmp_path: Path, rclone: MotoServer) -> None:
    client, build = rclone.client("s3"), fresh_machine(tmp_path, rclone)
    back_up_archive(client, CONTENT, "/somewhere.zip")
    assert archives_held(client, place_of()) == [FACTS.name]
    note, count = restore_archive(build, newest_mark(build, FACTS.name), quick())
    path = build.storage.local_path(note.archive.location)
    assert path is not None
    assert (path.read_bytes(), count) == (CONTENT, len(CONTENT))
