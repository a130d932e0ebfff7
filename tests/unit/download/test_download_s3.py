"""Archives in a bucket, against moto: fetched like any other, pinned to their ETag."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import (
    CONTENT,
    CUT,
    FACTS,
    MIB,
    OTHER,
    SHA256,
    Run,
    append,
    archive_bytes,
    quick,
)
from tests.support.moto_server import MotoServer

from imagenet_etl.download import s3
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.journal import RemoteFile, read_journal
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.release import release_archive
from imagenet_etl.download.transfer import Job
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import (
    AccessDenied,
    BadArchive,
    ChecksumMismatch,
    CloudNotFound,
    CloudUnavailable,
    SourceChanged,
    SourceError,
    SourceUnavailable,
)
from imagenet_etl.files import digest_of
from imagenet_etl.progress import Meter

URL = "s3://sets/imagenet/a.zip"


class Bucket:
    """A client whose downloads may be meddled with; it notes the ranges that are asked for."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.ranges: list[str] = []
        self.before_get: list[Callable[[], None]] = []
        self.cuts: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def put(self, content: bytes) -> None:
        self.client.put_object(Bucket="sets", Key="imagenet/a.zip", Body=content)

    def get_object(self, **request: Any) -> Any:
        self.ranges.append(request["Range"])
        if self.before_get:
            self.before_get.pop(0)()
        reply = self.client.get_object(**request)
        return reply | {"Body": Cut(reply["Body"], self.cuts.pop(0))} if self.cuts else reply


class Cut:
    """A body whose connection breaks."""

    def __init__(self, body: Any, at: int) -> None:
        self.body, self.at = body, at

    def iter_chunks(self, size: int) -> Any:
        from botocore.exceptions import ResponseStreamingError

        yield self.body.read(self.at)
        raise ResponseStreamingError(error="connection broken")

    def close(self) -> None:
        self.body.close()


@pytest.fixture
def bucket(moto: MotoServer) -> Bucket:
    moto.bucket("sets")
    bucket = Bucket(moto.client("s3"))
    bucket.put(CONTENT)
    return bucket


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data", digest_of(URL)[:12])


def fetched(run: Run, bucket: Bucket, url: str = URL) -> int:
    build = run.build(url, aws=lambda service: bucket)
    return verified_archive(build, FACTS, quick())[1]


def test_object_is_fetched_once(run: Run, bucket: Bucket) -> None:
    assert fetched(run, bucket) == len(CONTENT)
    run.assert_complete()
    assert fetched(run, bucket) == 0
    assert bucket.ranges == ["bytes=0-"]


def test_broken_connection_goes_on_where_it_was(run: Run, bucket: Bucket) -> None:
    bucket.cuts = [CUT]
    assert fetched(run, bucket) == len(CONTENT)
    run.assert_complete()
    assert bucket.ranges == ["bytes=0-", f"bytes={CUT}-"]


def test_killed_download_is_resumed_by_the_next_run(run: Run, bucket: Bucket) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    bucket.cuts, bucket.before_get = [CUT], [lambda: None, killed]
    with pytest.raises(KeyboardInterrupt):
        fetched(run, bucket)
    run.assert_nothing()
    assert fetched(run, bucket) == len(CONTENT)
    assert bucket.ranges[-1] == f"bytes={MIB}-"
    run.assert_complete()


def test_object_replaced_midway_is_begun_anew(run: Run, bucket: Bucket) -> None:
    bucket.cuts = [CUT]
    bucket.before_get = [lambda: None, lambda: bucket.put(OTHER)]
    fetched(run, bucket)
    run.assert_complete(OTHER)


def test_part_of_another_object_is_begun_anew(run: Run, bucket: Bucket) -> None:
    with PartFile(run.part) as part:
        part.start(RemoteFile(URL, '"another"', len(CONTENT)))
        append(part, OTHER[: 2 * MIB])
    fetched(run, bucket)
    run.assert_complete()
    assert bucket.ranges == ["bytes=0-"]


def test_object_replaced_twice_midway_is_refused(run: Run, bucket: Bucket) -> None:
    class Replaced(Bucket):
        def head_object(self, **request: Any) -> Any:
            if self.before_get:
                self.before_get.pop(0)()
            return self.client.head_object(**request)

        def get_object(self, **request: Any) -> Any:
            reply = self.client.get_object(**request)
            return reply | {"Body": Cut(reply["Body"], CUT)}

    other = Replaced(bucket.client)
    contents = iter([CONTENT, OTHER, OTHER, CONTENT])
    other.before_get = [lambda: bucket.put(next(contents))] * 4
    with pytest.raises(SourceChanged, match="ETag went from"):
        fetched(run, other)


def test_object_that_is_replaced_between_look_and_fetch_twice_is_refused(
    run: Run, bucket: Bucket
) -> None:
    bucket.before_get = [lambda: bucket.put(OTHER), lambda: bucket.put(CONTENT)]
    with pytest.raises(SourceChanged, match=URL):
        fetched(run, bucket)
    run.assert_nothing()


@pytest.mark.parametrize("url", ["s3://sets/no/such.zip", "s3://nobody/a.zip"])
def test_missing_object_or_bucket_is_named(run: Run, bucket: Bucket, url: str) -> None:
    with pytest.raises(CloudNotFound, match=url):
        fetched(run, bucket, url)


def test_size_is_compared_before_a_byte_is_fetched(bucket: Bucket, tmp_path: Path) -> None:
    wanted = Wanted("a.zip", URL, "zip", len(CONTENT) + 1)
    build = Run(tmp_path).build(URL, aws=lambda service: bucket)
    with PartFile(tmp_path / "a.part") as part, pytest.raises(ChecksumMismatch, match="size"):
        s3.fetch(build, Job(wanted, part, quick()), Meter("a", 0, "B"))
    assert bucket.ranges == []


def test_object_that_is_no_archive_is_refused(run: Run, bucket: Bucket) -> None:
    bucket.put(b"no archive at all" * 99)
    with pytest.raises(SourceError, match="is no zip archive"):
        fetched(run, bucket)


def test_empty_object_is_refused(run: Run, bucket: Bucket) -> None:
    bucket.put(b"")
    with pytest.raises(BadArchive, match="is empty"):
        fetched(run, bucket)


def test_demanded_digest_is_checked(run: Run, bucket: Bucket) -> None:
    run.place = SHA256[:12]
    fetched(run, bucket, f"{URL}#sha256={SHA256}")
    run.assert_complete()
    bucket.put(archive_bytes(5))
    with pytest.raises(ChecksumMismatch):
        fetched(Run(run.data.with_name("fresh")), bucket, f"{URL}#sha256={SHA256}")


def test_silent_endpoint_is_given_up(run: Run, moto: MotoServer) -> None:
    nowhere = MotoServer("http://127.0.0.1:9").client("s3", retries={"total_max_attempts": 1})
    build = run.build(URL, aws=lambda service: nowhere)
    patience = quick()
    patience.budget_s = 0.2
    patience.base_s = 0.1
    with pytest.raises(SourceUnavailable, match=URL):
        verified_archive(build, FACTS, patience)


def test_missing_credentials_are_told(run: Run, moto: MotoServer) -> None:
    import boto3

    def anonymous(service: str) -> Any:
        # The default session remembers the credentials of whoever asked before.
        return boto3.Session().client(service, endpoint_url=moto.url, region_name="us-east-1")

    with pytest.raises(AccessDenied, match="no AWS credentials"):
        verified_archive(run.build(URL, aws=anonymous), FACTS, quick())


def test_changed_object_is_noticed_and_fetched_anew(run: Run, bucket: Bucket) -> None:
    fetched(run, bucket)
    build = run.build(URL, aws=lambda service: bucket)
    assert not upstream_changed(build, FACTS)
    bucket.put(OTHER)
    assert upstream_changed(build, FACTS)
    fetched(run, bucket)
    run.assert_complete(OTHER)


def test_missing_object_leaves_the_verified_archive(
    run: Run, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    fetched(run, bucket)
    bucket.client.delete_object(Bucket="sets", Key="imagenet/a.zip")
    assert fetched(run, bucket) == 0
    assert "what was verified stays" in caplog.text


def test_look_at_a_bucket_that_does_not_answer_is_short(run: Run, bucket: Bucket) -> None:
    forever = threading.Event()

    class Silent:
        def head_object(self, **_: Any) -> dict[str, Any]:
            forever.wait(60)
            return {"ETag": '"x"', "ContentLength": 1}

    build = run.build(URL, aws=lambda service: Silent())
    with pytest.raises(CloudUnavailable, match="no answer within"):
        s3.look(build, Wanted("a.zip", URL, "zip"), timeout_s=0.05)
    forever.set()


def test_released_object_is_fetched_again(run: Run, bucket: Bucket) -> None:
    fetched(run, bucket)
    build = run.build(URL, aws=lambda service: bucket)
    assert release_archive(build, FACTS) == len(CONTENT)
    assert noted(build, FACTS, released_ok=True) is not None
    assert fetched(run, bucket) == len(CONTENT)


BIG = archive_bytes(31, 8 * MIB + 5)


@pytest.fixture
def big(bucket: Bucket) -> Bucket:
    """A bucket with an object of nine pieces."""
    bucket.put(BIG)
    return bucket


def test_large_object_is_fetched_in_ranges(run: Run, big: Bucket) -> None:
    assert fetched(run, big) == len(BIG)
    run.assert_complete(BIG)
    assert set(big.ranges) == {
        f"bytes={at}-{min(at + MIB, len(BIG)) - 1}" for at in range(0, len(BIG), MIB)
    }
    assert len(big.ranges) == 9


def test_range_of_an_object_that_breaks_off_goes_on(run: Run, big: Bucket) -> None:
    big.cuts = [1000, MIB, 0, 70_000]
    assert fetched(run, big) == len(BIG)
    run.assert_complete(BIG)


def test_large_object_that_is_replaced_midway_is_begun_anew(run: Run, big: Bucket) -> None:
    newer = archive_bytes(32, len(BIG))
    big.before_get = [lambda: None] * 4 + [lambda: big.put(newer)]
    fetched(run, big)
    run.assert_complete(newer)


def test_finished_ranges_of_a_killed_download_are_kept(run: Run, big: Bucket) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    big.before_get = [lambda: None] * 6 + [killed]
    with pytest.raises(KeyboardInterrupt):
        fetched(run, big)
    run.assert_nothing()
    journal = read_journal(run.journal)
    assert journal is not None
    big.ranges.clear()
    assert fetched(run, big) == len(BIG)
    assert len(big.ranges) == 9 - len(journal.proven)
    run.assert_complete(BIG)
