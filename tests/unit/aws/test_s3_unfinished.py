"""Multipart uploads that nobody goes on with."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server

from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_unfinished import (
    IDLE_S,
    Noted,
    abort_abandoned,
    parts_of,
    unfinished,
)
from imagenet_etl.storage import LocalStorage

KEY = "datasets/tiny/archives/a.tar"
URI = f"s3://backups/{KEY}"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A bucket of rclone's: moto gives every upload the same time, in 2010."""
    with rclone_server() as server:
        server.bucket("backups")
        yield Bucket(server.client("s3"), "backups")


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(LocalStorage(tmp_path), "work/tiny/s3_uploads")


def begin(bucket: Bucket, key: str = KEY) -> str:
    upload: str = bucket.client.create_multipart_upload(Bucket="backups", Key=key)["UploadId"]
    return upload


def swept(bucket: Bucket, noted: Noted, now: Callable[[], float], *wanted: str) -> int:
    return abort_abandoned(bucket, "datasets/tiny/", noted, set(wanted).__contains__, now)


def later() -> float:
    return time.time() + IDLE_S + 60


def test_upload_without_a_new_part_for_a_day_is_aborted(bucket: Bucket, noted: Noted) -> None:
    begin(bucket)
    assert swept(bucket, noted, later) == 1
    assert list(unfinished(bucket, "")) == []


def test_fresh_upload_of_another_machine_is_left_alone(bucket: Bucket, noted: Noted) -> None:
    begin(bucket)
    assert swept(bucket, noted, time.time) == 0
    assert len(list(unfinished(bucket, ""))) == 1


def test_upload_that_is_silent_for_as_long_as_a_resume_reads_is_left_alone(
    bucket: Bucket, noted: Noted
) -> None:
    begin(bucket)
    assert swept(bucket, noted, lambda: time.time() + 12 * 3600) == 0
    assert len(list(unfinished(bucket, ""))) == 1


def test_old_upload_with_a_new_part_is_left_alone(bucket: Bucket, noted: Noted) -> None:
    upload = begin(bucket)
    begun = next(iter(unfinished(bucket, "")))[2]
    time.sleep(1.1)  # S3 tells times in seconds
    bucket.client.upload_part(
        Bucket="backups", Key=KEY, UploadId=upload, PartNumber=1, Body=b"part"
    )
    assert swept(bucket, noted, lambda: begun + IDLE_S + 0.5) == 0


def test_own_upload_is_kept_while_its_file_is_wanted(bucket: Bucket, noted: Noted) -> None:
    noted.put(URI, begin(bucket), "content")
    assert swept(bucket, noted, later, KEY) == 0
    assert noted.get(URI)


def test_own_upload_of_another_run_is_left_alone_until_it_is_idle(
    bucket: Bucket, noted: Noted
) -> None:
    noted.put(URI, begin(bucket), "content")
    assert swept(bucket, noted, time.time) == 0
    assert swept(bucket, noted, later) == 1
    assert noted.get(URI) == ""


def test_parts_beyond_the_first_page_of_a_listing_are_found(moto: MotoServer) -> None:
    moto.bucket("backups")
    bucket = Bucket(moto.client("s3"), "backups")
    upload = begin(bucket)
    for number in range(1, 6):
        bucket.client.upload_part(
            Bucket="backups", Key=KEY, UploadId=upload, PartNumber=number, Body=b"x" * number
        )
    asked: list[int] = []

    def two_a_page(params: dict[str, Any], **_: object) -> None:
        asked.append(params.get("PartNumberMarker", 0))
        params["MaxParts"] = 2  # S3 gives a thousand

    bucket.client.meta.events.register("provide-client-params.s3.ListParts", two_a_page)
    parts, last = parts_of(bucket, KEY, upload)
    assert {number: part.size for number, part in parts.items()} == {n: n for n in range(1, 6)}
    assert asked == [0, 2, 4]
    assert last > 0


def test_uploads_of_other_prefixes_are_nobodys_business(bucket: Bucket, noted: Noted) -> None:
    begin(bucket, "datasets/tiny2/x")
    begin(bucket, "theirs/x")
    assert swept(bucket, noted, later) == 0
    assert len(list(unfinished(bucket, ""))) == 2
