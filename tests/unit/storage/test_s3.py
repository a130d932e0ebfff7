"""What only a storage in a bucket must do."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from tests.support.moto_server import MotoServer
from tests.support.storages import describe_new, keys, opened, staged

from imagenet_etl.errors import (
    ArchiveChanged,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    ConfigError,
    KeyExists,
    LeaseLost,
)
from imagenet_etl.storage import s3_writing
from imagenet_etl.storage.opening import open_storage
from imagenet_etl.storage.s3 import S3Storage

pytestmark = pytest.mark.usefixtures("temporary_folder")


@pytest.fixture
def bucket(tmp_path, moto):
    with opened(describe_new("bucket", tmp_path, moto)) as storage:
        assert isinstance(storage, S3Storage)
        yield storage


def test_a_bucket_has_no_local_path(bucket):
    assert bucket.local_path("a") is None


def test_a_bucket_refuses_to_read_on_in_a_replaced_object(bucket):
    bucket.put("a", b"old")
    with bucket.open("a") as file:
        bucket.put("a", b"new")
        with pytest.raises(ArchiveChanged, match="/a was replaced"):
            file.read_at(0, 3)
        bucket.delete("a")
        with pytest.raises(ArchiveChanged, match="removed"):
            file.read_at(0, 3)


class _Wrapped:
    """A client with one method replaced."""

    def __init__(self, client: Any, **methods: Any) -> None:
        self._client = client
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_put_whose_reply_was_lost_counts_as_made(bucket, moto):
    client = moto.client("s3")

    def repeat(**request: Any) -> Any:
        client.put_object(**request)
        request["Body"].seek(0)
        return client.put_object(**request)  # the SDK's own retry

    retrying = S3Storage(_Wrapped(client, put_object=repeat), bucket.url)
    assert retrying.create("a", b"x")
    assert not retrying.create("a", b"x")
    retrying.publish("b", staged(retrying, b"y"))
    assert bucket.read("b") == b"y"
    retrying.close_staging()


def test_a_conflicting_write_is_tried_again(bucket, moto, monkeypatch):
    from botocore.exceptions import ClientError

    monkeypatch.setattr(s3_writing, "_PAUSE_S", 0.0)
    client, left = moto.client("s3"), [2]

    def conflict(**request: Any) -> Any:
        if left[0]:
            left[0] -= 1
            request["Body"].read()
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return client.put_object(**request)

    storage = S3Storage(_Wrapped(client, put_object=conflict), bucket.url)
    assert storage.create("a", b"whole")
    assert bucket.read("a") == b"whole"
    left[0] = 1000
    with pytest.raises(CloudUnavailable, match="/b is being written"):
        storage.create("b", b"x")


def test_a_tree_whose_mover_died_is_moved_again(bucket, moto):
    for name in ("manifest.json", "a", "b"):
        bucket.put(f"work/tree/{name}", name.encode())
    client = moto.client("s3")

    def die(**request: Any) -> None:
        if request["Key"].endswith("/b"):
            raise KeyboardInterrupt
        client.copy_object(**request)

    dying = S3Storage(_Wrapped(client, copy_object=die), bucket.url)
    with pytest.raises(KeyboardInterrupt):
        dying.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(bucket, "datasets") == ["datasets/v1/a"]
    bucket.put("datasets/v1/stale", b"")
    copied: list[str] = []

    def count(**request: Any) -> None:
        copied.append(request["Key"].rpartition("/")[2])
        client.copy_object(**request)

    later = S3Storage(_Wrapped(client, copy_object=count), bucket.url)
    later.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert copied == ["b"]
    assert keys(bucket, "datasets/v1") == [
        f"datasets/v1/{name}" for name in ("a", "b", "manifest.json")
    ]


@pytest.mark.parametrize("moment", ["head_object", "list_objects_v2", "copy_object"])
def test_a_tree_that_another_run_publishes_meanwhile_stays_whole(bucket, moto, moment):
    names = ("a", "b", "manifest.json")
    for name in names:
        bucket.put(f"work/tree/{name}", name.encode())
    late, asked = moto.client("s3"), []

    def pause(**_: Any) -> None:  # the late run stands still here while another one publishes
        asked.append(moment)
        if len(asked) == 1:
            bucket.publish_tree("work/tree", "datasets/v1", "manifest.json")

    operation = "".join(word.capitalize() for word in moment.split("_"))
    late.meta.events.register(f"before-call.s3.{operation}", pause)
    with pytest.raises((KeyExists, CloudUnavailable)):
        S3Storage(late, bucket.url).publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert asked
    assert {key: bucket.read(key) for key in keys(bucket, ".")} == {
        f"datasets/v1/{name}": name.encode() for name in names
    }


def test_a_tree_whose_source_another_run_removes_gets_no_mark(bucket, moto):
    for name in ("a", "manifest.json"):
        bucket.put(f"work/tree/{name}", b"")
    bucket.put("datasets/v1/stray", b"")
    late = moto.client("s3")
    # Once all is listed and copied, before the strays go.
    late.meta.events.register("after-call.s3.CopyObject", lambda **_: bucket.delete("work/tree"))
    with pytest.raises(LeaseLost, match="work/tree was moved or removed"):
        S3Storage(late, bucket.url).publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert bucket.stat("datasets/v1/manifest.json") is None


def test_a_bucket_that_lists_in_no_order_is_refused(bucket, moto):
    for name in ("a", "b"):
        bucket.put(name, b"")
    client = moto.client("s3")
    client.meta.events.register(
        "after-call.s3.ListObjectsV2", lambda parsed, **_: parsed["Contents"].reverse()
    )
    with pytest.raises(CloudError, match=r"lists .*/a behind .*/b.*general purpose bucket"):
        keys(S3Storage(client, bucket.url), ".")


def test_a_directory_bucket_is_refused():
    with pytest.raises(ConfigError, match="general purpose bucket"):
        open_storage("s3://name--usw2-az1--x-s3/data", lambda: None)


def test_the_mark_of_a_tree_appears_last(bucket, moto):
    for name in ("a.json", "b", "c"):  # the mark comes first in order
        bucket.put(f"work/tree/{name}", b"")
    client, seen = moto.client("s3"), []

    def look(**request: Any) -> None:
        seen.append(bucket.stat("datasets/v1/a.json"))
        client.copy_object(**request)

    S3Storage(_Wrapped(client, copy_object=look), bucket.url).publish_tree(
        "work/tree", "datasets/v1", "a.json"
    )
    assert seen == [None, None]
    assert bucket.stat("datasets/v1/a.json") is not None


class _LateFuture(Future[None]):
    """Wakes who waits for it before it calls back, as all do, with time between."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.set_exception(error)
        self.calls: list[Any] = []

    def add_done_callback(self, fn: Any) -> None:
        self.calls.append(fn)


def test_a_failure_is_told_before_its_write_calls_back_and_once(bucket, monkeypatch):
    late = _LateFuture(CloudUnavailable("lost"))
    with monkeypatch.context() as patch:
        patch.setattr(bucket._session.pool(), "submit", lambda *_: late)
        bucket.place("t/a", staged(bucket, b"x"))
    with pytest.raises(CloudUnavailable, match="lost"):
        bucket.flush("t")
    for call in late.calls:
        call(late)
    bucket.flush("t")


def test_a_missing_bucket_is_named(moto):
    storage = S3Storage(moto.client("s3"), "s3://never-made/prefix")
    with pytest.raises(CloudNotFound, match="never-made"):
        storage.put("a", b"")
    with pytest.raises(CloudNotFound, match="never-made"):
        list(storage.list("a"))


def test_a_server_that_is_gone_is_a_transient_error(tmp_path):
    gone = MotoServer("http://127.0.0.1:9").client(
        "s3", retries={"max_attempts": 0}, connect_timeout=2
    )
    storage = S3Storage(gone, "s3://bucket")
    for call in (
        lambda: storage.stat("a"),
        lambda: storage.read("a"),
        lambda: storage.put("a", b""),
    ):
        with pytest.raises(CloudUnavailable, match="s3://bucket"):
            call()


def test_a_bucket_without_a_prefix_works_alike(moto):
    storage = S3Storage(moto.client("s3"), moto.bucket("no-prefix"))
    storage.put("a/b", b"x")
    assert keys(storage, "a") == keys(storage, ".") == ["a/b"]
    storage.delete("a")
    assert keys(storage, ".") == []
