"""A published version and AWS on the loopback."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server

from imagenet_etl.build import Build


@pytest.fixture(scope="module")
def rclone() -> Iterator[MotoServer]:
    with rclone_server() as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def s3(request: pytest.FixtureRequest) -> Iterator[MotoServer]:
    """Two servers that have nothing in common."""
    server: MotoServer = request.getfixturevalue(request.param)
    server.bucket("backups")
    yield server
    client = server.client("s3")
    for item in client.list_objects_v2(Bucket="backups").get("Contents", ()):
        client.delete_object(Bucket="backups", Key=item["Key"])
    client.delete_bucket(Bucket="backups")


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("packed")
    build = build_of(folder, tiny_zip(folder), formats=("recordio", "imagefolder"), version="v1")
    run_stages(build)
    return build


def with_settings(build: Build, aws: Any, **settings: str) -> Build:
    return replace(build, settings=replace(build.settings, **settings), aws=aws)


def version_folder(build: Build) -> Path:
    return Path(build.settings.data_dir, build.published, "v1")
