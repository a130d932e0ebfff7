"""Writing to a bucket: in parts, many at once, moved inside it, and removed."""

from __future__ import annotations

import random
import threading
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.fault_proxy import fault_proxy
from tests.support.rclone_server import rclone_server
from tests.support.storages import describe_new, keys, opened, staged

from imagenet_etl.errors import CloudError, CloudUnavailable, KeyExists
from imagenet_etl.storage import s3_part_copy, s3_placing, s3_tree, s3_writing
from imagenet_etl.storage.s3 import S3Storage

pytestmark = pytest.mark.usefixtures("temporary_folder")

_PART = 5 << 20  # the least that S3 takes
_LARGE = random.Random(5).randbytes(2 * _PART + 1000)


@pytest.fixture
def proxy(moto):
    with fault_proxy(moto.url) as proxy:
        yield proxy


@pytest.fixture
def bucket(tmp_path, moto, proxy, monkeypatch):
    monkeypatch.setattr(s3_writing, "MULTIPART_ABOVE", _PART)
    monkeypatch.setattr(s3_writing, "PART_BYTES", _PART)
    monkeypatch.setattr(s3_writing, "_PAUSE_S", 0.0)
    monkeypatch.setattr(s3_tree, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(s3_tree, "_BATCH", 3)
    _, uri = describe_new("bucket", tmp_path, moto).split()
    with opened(f"{proxy.url} {uri}") as storage:
        yield storage


def uploads(storage: S3Storage) -> list[Any]:
    listed = storage._client.list_multipart_uploads(Bucket=storage._bucket)
    return listed.get("Uploads", [])


def test_a_large_file_goes_up_in_parts_that_s3_checks(bucket, proxy):
    stat = bucket.publish("a", staged(bucket, _LARGE))
    assert stat.size == len(_LARGE)
    assert proxy.calls.count("UploadPart") == 3
    assert bucket.read("a") == _LARGE
    assert uploads(bucket) == []
    assert list(bucket.staging().iterdir()) == [bucket.staging() / "owner.json"]


def test_only_the_first_answer_to_a_put_is_compared_with_a_head(bucket, proxy):
    stats = {name: bucket.publish(name, staged(bucket, name.encode())) for name in ("a", "b", "c")}
    assert proxy.calls.count("HeadObject") == 1
    assert stats == {name: bucket.stat(name) for name in stats}


def test_a_server_whose_puts_tell_other_etags_is_asked_each_time(tmp_path):
    with rclone_server("--etag-hash", "SHA-1") as server:
        _, uri = describe_new("bucket", tmp_path, server).split()
        with opened(f"{server.url} {uri}") as storage:
            for name in ("a", "b", "c"):
                assert storage.publish(name, staged(storage, b"content")) == storage.stat(name)


def test_a_put_that_tells_no_etag_is_followed_by_a_head(bucket, moto):
    client = moto.client("s3")
    put = client.put_object
    client.put_object = lambda **asked: {k: v for k, v in put(**asked).items() if k != "ETag"}
    storage = S3Storage(client, bucket.url)
    assert storage.create("a", b"1")
    assert storage.publish("b", staged(storage, b"2")) == bucket.stat("b")


def test_a_taken_key_is_noticed_before_the_first_part(bucket, proxy):
    bucket.put("a", b"first")
    with pytest.raises(KeyExists):
        bucket.publish("a", staged(bucket, _LARGE))
    assert "CreateMultipartUpload" not in proxy.calls
    assert bucket.read("a") == b"first"


def test_a_key_that_is_taken_while_parts_go_up_is_not_replaced(bucket, moto):
    client = moto.client("s3")
    complete = client.complete_multipart_upload

    def too_late(**request: Any) -> Any:
        bucket.put("a", b"another's")
        assert request["IfNoneMatch"] == "*"
        return complete(**request)

    client.complete_multipart_upload = too_late
    storage = S3Storage(client, bucket.url)
    path = staged(bucket, _LARGE)
    with pytest.raises(KeyExists):
        storage.publish("a", path)
    assert path.exists()
    assert bucket.read("a") == b"another's"
    assert uploads(bucket) == []


def test_a_lost_reply_to_the_last_call_is_no_failure(bucket, proxy):
    proxy.drop_reply("CompleteMultipartUpload")
    bucket.publish("a", staged(bucket, _LARGE))
    assert bucket.read("a") == _LARGE


def test_a_failed_upload_leaves_no_parts(bucket, proxy):
    proxy.answer("UploadPart", status=403, code="AccessDenied", skip=1)
    path = staged(bucket, _LARGE)
    with pytest.raises(CloudError, match="UploadPart"):
        bucket.publish("a", path)
    assert path.exists()
    assert bucket.stat("a") is None
    assert uploads(bucket) == []


def test_a_small_file_goes_up_with_its_sha256(bucket, moto):
    client, sent = moto.client("s3"), []
    put = client.put_object

    def look(**request: Any) -> Any:
        sent.append(request["ChecksumSHA256"])
        return put(**request)

    client.put_object = look
    S3Storage(client, bucket.url).publish("a", staged(bucket, b"small"))
    assert sent == [b64encode(sha256(b"small").digest()).decode()]


@pytest.mark.parametrize(("action", "data"), [("PutObject", b"small"), ("UploadPart", _LARGE)])
def test_a_body_that_arrives_damaged_is_sent_again(bucket, proxy, action, data):
    proxy.answer(action, status=400, code="BadDigest", times=2)
    bucket.publish("a", staged(bucket, data))
    assert bucket.read("a") == data
    proxy.answer(action, status=400, code="BadDigest", times=100)
    with pytest.raises(CloudUnavailable, match="/b arrives damaged"):
        bucket.publish("b", staged(bucket, data))
    assert bucket.stat("b") is None


def test_what_is_placed_goes_up_side_by_side_and_the_last_of_a_key_stays(bucket, moto):
    client, line = moto.client("s3"), threading.Barrier(4)
    put = client.put_object

    def meet(**request: Any) -> Any:
        if not request["Key"].endswith("same"):
            line.wait(10)
        return put(**request)

    client.put_object = meet
    storage = S3Storage(client, bucket.url)
    for number in range(4):
        storage.place(f"t/{number}", staged(bucket, b"%d" % number))
    for number in range(4):
        storage.place("t/same", staged(bucket, b"%d" % number))
    storage.flush("t")
    assert {key: bucket.read(key) for key in keys(bucket, "t")} == {
        **{f"t/{number}": b"%d" % number for number in range(4)},
        "t/same": b"3",
    }


def test_a_placed_file_that_cannot_be_stored_fails_the_flush(bucket, proxy):
    proxy.answer("PutObject", status=403, code="AccessDenied")
    bucket.place("t/a", staged(bucket, b"x"))
    with pytest.raises(CloudError, match="PutObject"):
        bucket.flush("t")
    bucket.place("t/a", staged(bucket, b"x"))
    bucket.flush("t")
    assert bucket.read("t/a") == b"x"


@pytest.mark.parametrize("above", [0, 1 << 30])
def test_a_large_placed_file_is_stored_from_its_file(bucket, monkeypatch, above):
    monkeypatch.setattr(s3_placing, "_IN_MEMORY", 10)
    monkeypatch.setattr(s3_writing, "MULTIPART_ABOVE", above)
    for data in (b"old", b"more than ten bytes"):
        bucket.place("t/a", staged(bucket, data))
    bucket.flush("t")
    assert bucket.read("t/a") == b"more than ten bytes"


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(s3_tree, "COPY_IN_PARTS_ABOVE", _PART)
    monkeypatch.setattr(s3_part_copy, "COPY_PART_BYTES", _PART)


def test_what_is_large_is_copied_in_parts_side_by_side(bucket, moto, small_parts):
    bucket.publish("w/a", staged(bucket, _LARGE))
    bucket.put("w/mark", b"")
    client, line = moto.client("s3"), threading.Barrier(3)
    copy = client.upload_part_copy

    def meet(**request: Any) -> Any:
        line.wait(10)
        return copy(**request)

    client.upload_part_copy = meet
    S3Storage(client, bucket.url).publish_tree("w", "d", "mark")
    assert bucket.read("d/a") == _LARGE
    assert keys(bucket, ".") == ["d/a", "d/mark"]


def test_a_copy_in_parts_that_fails_leaves_none(bucket, proxy, small_parts):
    bucket.publish("w/a", staged(bucket, _LARGE))
    bucket.put("w/mark", b"")
    proxy.answer("UploadPart", status=403, code="AccessDenied", skip=1)
    with pytest.raises(CloudError, match="UploadPartCopy"):
        bucket.publish_tree("w", "d", "mark")
    assert uploads(bucket) == []
    assert keys(bucket, ".") == ["w/a", "w/mark"]


def test_a_file_that_is_replaced_after_it_was_listed_is_not_copied(bucket, proxy):
    bucket.put("w/a", b"listed")
    bucket.put("w/mark", b"")
    asked: list[str] = []
    bucket._client.meta.events.register(
        "provide-client-params.s3.CopyObject",
        lambda params, **_: asked.append(params["CopySourceIfMatch"]),
    )
    proxy.answer("CopyObject", status=412, code="PreconditionFailed")  # moto knows no such header
    with pytest.raises(CloudUnavailable, match="w/a vanished or was replaced"):
        bucket.publish_tree("w", "d", "mark")
    assert asked == [bucket.stat("w/a").tag]


def test_a_copy_of_another_etag_is_known_by_who_wrote_it(bucket, proxy, monkeypatch):
    monkeypatch.setattr(s3_tree, "_WORTH_ASKING", 0)
    bucket.publish("w/a", staged(bucket, _LARGE))  # in parts, so that its copy has another ETag
    bucket.put("w/b", b"b")
    bucket.put("w/mark", b"")
    client = bucket._client
    for name in ("a", "b"):
        client.copy_object(
            Bucket=bucket._bucket,
            Key=bucket._key(f"d/{name}"),
            CopySource={"Bucket": bucket._bucket, "Key": bucket._key(f"w/{name}")},
        )
    assert bucket.stat("d/a").tag != bucket.stat("w/a").tag
    proxy.calls.clear()
    bucket.publish_tree("w", "d", "mark")
    assert "CopyObject" not in proxy.calls
    assert keys(bucket, ".") == ["d/a", "d/b", "d/mark"]


def test_other_content_of_the_same_size_is_no_copy(bucket, proxy):
    bucket.put("w/a", b"new")
    bucket.put("w/mark", b"")
    bucket.put("d/a", b"old")
    for stray in range(5):
        bucket.put(f"d/{stray}/stray", b"")
    bucket.publish_tree("w", "d", "mark")
    assert bucket.read("d/a") == b"new"
    assert keys(bucket, ".") == ["d/a", "d/mark"]


def test_keys_are_removed_in_batches(bucket, proxy):
    for number in range(7):
        bucket.put(f"t/{number}", b"")
    proxy.calls.clear()
    bucket.delete("t")
    assert keys(bucket, ".") == []
    assert sorted(proxy.calls[1:-1]) == ["DeleteObjects"] * 3


def test_a_server_without_batches_is_asked_one_by_one(bucket, proxy):
    for number in range(7):
        bucket.put(f"t/{number}", b"")
    proxy.answer("DeleteObjects", status=501, code="NotImplemented", times=100)
    bucket.delete("t")
    assert keys(bucket, ".") == []


def _leaving_first(client: Any, code: str) -> Any:
    """Return a client whose DeleteObjects does nothing, and tells it of the first key."""

    def refuse(Delete: Any, **_: Any) -> Any:  # noqa: N803
        return {"Errors": [{**Delete["Objects"][0], "Code": code, "Message": "no"}]}

    client.delete_objects = refuse
    return client


def test_a_key_that_stays_is_named(bucket, moto):
    bucket.put("t/a", b"")
    storage = S3Storage(_leaving_first(moto.client("s3"), "AccessDenied"), bucket.url)
    with pytest.raises(CloudError, match="t/a among them: found AccessDenied"):
        storage.delete("t")


def test_a_key_that_s3_had_no_time_for_is_tried_again(bucket, moto):
    bucket.put("t/a", b"")
    S3Storage(_leaving_first(moto.client("s3"), "SlowDown"), bucket.url).delete("t")
    assert bucket.stat("t/a") is None


def test_a_conflict_while_parts_are_joined_is_told(bucket, moto):
    client = moto.client("s3")

    def conflict(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "Complete")

    client.complete_multipart_upload = conflict
    with pytest.raises(CloudUnavailable, match="/a is being written"):
        S3Storage(client, bucket.url).publish("a", staged(bucket, _LARGE))
    assert uploads(bucket) == []
