"""Archives in a bucket, and on their way into one, over a server that shares no code with moto."""

from collections.abc import Iterator

import pytest
from tests.support.downloads import CONTENT, SHA256, makes_way
from tests.support.fault_server import Answer, FaultServer
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server
from tests.unit.download.bucket_runs import (
    PART,
    bucket_build,
    content_at,
    got,
    keys_below,
)

from imagenet_etl.download import part_object


@pytest.fixture
def rclone() -> Iterator[MotoServer]:
    with rclone_server() as server:
        server.bucket("sets")
        yield server


def test_an_archive_is_used_in_place(rclone: MotoServer) -> None:
    rclone.client("s3").put_object(Bucket="sets", Key="site/a.zip", Body=CONTENT)
    build = bucket_build(rclone, f"s3://sets/site/a.zip#sha256={SHA256}")
    note, fetched = got(build)
    assert (note.digests, fetched, got(build)) == ({"sha256": SHA256}, 0, (note, 0))


def test_an_archive_is_fetched_into_the_bucket_in_slices(
    rclone: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_object, "LEAST_PART", PART)
    with FaultServer(CONTENT) as server:
        server.always = Answer(pause_s=0.02)
        build = bucket_build(rclone, f"{server.url}#sha256={SHA256}", connections=1)
        makes_way(lambda: got(build, 0.3))
        server.always = Answer()
        note, fetched = got(build)
    assert (note.sha256, content_at(build, note), fetched) == (SHA256, CONTENT, len(CONTENT))
    location = note.archive.location
    assert keys_below(build, "archives") == [location, f"{location}.receipt.json"]
