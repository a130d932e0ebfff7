"""One file by one request, and what all requests have in common."""

import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from tests.support.certificates import loopback_certificate
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server
from urllib3 import HTTPResponse

from imagenet_etl.aws.client_config import client_config
from imagenet_etl.aws.s3_bucket import Bucket, LocalFile
from imagenet_etl.aws.s3_multipart import MultipartUpload
from imagenet_etl.aws.s3_unfinished import Noted
from imagenet_etl.aws.s3_upload import MIB, Bodies, Sending, put_file
from imagenet_etl.aws.s3_watch import watched
from imagenet_etl.config import BOUNDS
from imagenet_etl.errors import BackupConflict, CloudUnavailable, DatasetDamaged, KeyExists
from imagenet_etl.files import hash_file
from imagenet_etl.storage import LocalStorage

HASH_OF_CONTENT = "7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M="


def local(folder: Path, data: bytes, key: str = "file") -> LocalFile:
    path = folder / "file"
    path.write_bytes(data)
    return LocalFile(key, path, len(data), hash_file(path, "sha256")["sha256"])


@pytest.fixture
def bucket(moto: MotoServer) -> Bucket:
    moto.bucket("backups")
    return Bucket(moto.client("s3"), "backups")


def body(bucket: Bucket, key: str = "file") -> bytes:
    data: bytes = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    return data


def test_s3_is_told_the_known_digest(bucket: Bucket, tmp_path: Path) -> None:
    sent: list[str] = []
    bucket.client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: sent.append(request.headers["x-amz-checksum-sha256"].decode()),
    )
    put_file(bucket, local(tmp_path, b"content"), Sending(), Bodies(0))
    assert sent == [HASH_OF_CONTENT]
    assert body(bucket) == b"content"


def test_empty_file_arrives(bucket: Bucket, tmp_path: Path) -> None:
    file = local(tmp_path, b"")
    etag = put_file(bucket, file, Sending(), Bodies(0))
    assert bucket.check(file).etag == etag


def test_taken_key_is_left_alone(bucket: Bucket, tmp_path: Path) -> None:
    bucket.client.put_object(Bucket="backups", Key="file", Body=b"mine")
    with pytest.raises(KeyExists):
        put_file(bucket, local(tmp_path, b"content"), Sending(), Bodies(0))
    assert body(bucket) == b"mine"


def test_file_of_another_size_is_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    file = local(tmp_path, b"content")
    file.path.write_bytes(b"content and more")
    with pytest.raises(DatasetDamaged, match="not what it was"):
        put_file(bucket, file, Sending(), Bodies(0))
    assert bucket.head("file") is None


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        yield proxy


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch"])
def test_body_that_was_damaged_on_its_way_is_sent_again(
    proxy: FaultProxy, tmp_path: Path, code: str
) -> None:
    proxy.answer("PutObject", status=400, code=code, times=2)
    bucket = Bucket(proxy.client("s3"), "backups")
    put_file(bucket, local(tmp_path, b"content"), Sending(), Bodies(0))
    assert body(bucket) == b"content"


def test_intact_file_that_always_arrives_damaged_is_transient(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.answer("PutObject", status=400, code="BadDigest", times=99)
    bucket = Bucket(proxy.client("s3"), "backups")
    with pytest.raises(CloudUnavailable, match="arrives damaged, 3 times"):
        put_file(bucket, local(tmp_path, b"content"), Sending(), Bodies(0))
    assert proxy.calls == ["PutObject"] * 3


def test_file_that_is_damaged_is_told_after_one_try(proxy: FaultProxy, tmp_path: Path) -> None:
    file = local(tmp_path, b"content")
    file.path.write_bytes(b"CONTENT")
    proxy.answer("PutObject", status=400, code="BadDigest", times=99)
    with pytest.raises(DatasetDamaged, match="not what it was"):
        put_file(Bucket(proxy.client("s3"), "backups"), file, Sending(), Bodies(0))
    assert proxy.calls == ["PutObject"]


def test_object_without_a_stored_digest_is_known_by_that_of_s3(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.client.put_object(
        Bucket="backups", Key="file", Body=b"content", ChecksumAlgorithm="SHA256"
    )
    assert bucket.check(local(tmp_path, b"content")).size == len(b"content")


def test_stored_digest_that_s3s_own_contradicts_is_a_conflict(
    bucket: Bucket, tmp_path: Path
) -> None:
    file = local(tmp_path, b"content")
    bucket.client.put_object(
        Bucket="backups", Key="file", Body=b"CONTENT", Metadata={"sha256": file.sha256},
        ChecksumAlgorithm="SHA256",
    )  # fmt: skip
    with pytest.raises(BackupConflict, match="ChecksumSHA256"):
        bucket.check(file)


def test_limit_of_bandwidth_changes_nothing_but_the_speed(bucket: Bucket, tmp_path: Path) -> None:
    small = local(tmp_path, bytes(range(256)) * 3000)
    with watched(bucket.client):
        put_file(bucket, small, Sending(), Bodies(200))
        assert body(bucket) == small.path.read_bytes()
        large = local(tmp_path, bytes(range(256)) * (11 << 12), "large")
        sending = Sending(connections=2, part_bytes=5 * MIB)
        noted = Noted(LocalStorage(tmp_path / "data"), "work")
        MultipartUpload(bucket, large, sending, Bodies(200), noted).run()
    assert body(bucket, "large") == large.path.read_bytes()


def test_limited_bodies_are_slowed_while_they_are_sent_and_not_while_hashed(
    bucket: Bucket, tmp_path: Path
) -> None:
    file = local(tmp_path, b"x" * (MIB // 2))
    bodies, states = Bodies(200), []
    limited = bodies.of(file.path, 0, file.size)
    stream = limited._fileobj

    def note(**_: object) -> None:
        states.append(stream._bandwidth_limiting_enabled)

    events = bucket.client.meta.events
    with limited, watched(bucket.client):
        events.register("before-sign.s3", note)
        events.register("before-send.s3", note)
        bucket.client.put_object(Bucket="backups", Key="file", Body=limited)
    assert states == [False, True]


def test_small_body_is_sent_without_waiting_for_a_go_ahead(bucket: Bucket, tmp_path: Path) -> None:
    waits: list[bool] = []
    bucket.client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: waits.append("Expect" in request.headers)
    )
    with watched(bucket.client):
        put_file(bucket, local(tmp_path, b"content"), Sending(), Bodies(0))
        put_file(bucket, local(tmp_path, bytes(2 * MIB), "larger"), Sending(), Bodies(0))
    assert waits == [False, True]


class CountedReads(io.BytesIO):
    """A body that tells how much of it was read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def signed(scheme: str, action: str, **request: Any) -> tuple[dict[str, str], int]:
    """Return the headers of an upload that is not sent, and how much of its body was read."""
    client = boto3.client(
        "s3", endpoint_url=f"{scheme}://s3.us-east-1.amazonaws.com", region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b", config=client_config("s3"),
    )  # fmt: skip
    sent: list[dict[str, str]] = []

    def stop(request: Any, **_: object) -> AWSResponse:
        headers = request.headers.items()
        sent.append({k.lower(): v if isinstance(v, str) else v.decode() for k, v in headers})
        nothing = HTTPResponse(io.BytesIO(), preload_content=False)
        return AWSResponse(request.url, 200, {"ETag": "x"}, nothing)

    client.meta.events.register("before-send.s3", stop)
    body = CountedReads(bytes(2 * MIB))
    with watched(client):
        getattr(client, action)(Bucket="backups", Key="file", Body=body, **request)
    return sent[0], body.count


UPLOADS = [
    ("put_object", {"ChecksumSHA256": HASH_OF_CONTENT}, "x-amz-checksum-sha256"),
    ("upload_part", {"ChecksumCRC32": "AAAAAA==", "UploadId": "u", "PartNumber": 1},
     "x-amz-checksum-crc32"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "request_", "header"), UPLOADS)
def test_body_with_a_checksum_is_not_read_for_its_signature_over_https(
    action: str, request_: dict[str, Any], header: str
) -> None:
    headers, read = signed("https", action, **request_)
    assert (headers["x-amz-content-sha256"], read) == ("UNSIGNED-PAYLOAD", 0)
    assert header in headers["authorization"], "the checksum itself is signed"
    assert headers[header] in request_.values()


@pytest.mark.parametrize(("action", "request_", "header"), UPLOADS)
def test_body_is_signed_over_plain_http(action: str, request_: dict[str, Any], header: str) -> None:
    headers, read = signed("http", action, **request_)
    content = hashlib.sha256(bytes(2 * MIB)).hexdigest()
    assert (headers["x-amz-content-sha256"], read) == (content, 2 * MIB)
    assert header in headers["authorization"]


def test_bodies_that_are_not_signed_arrive_over_https(moto: MotoServer, tmp_path: Path) -> None:
    moto.bucket("backups")
    with fault_proxy(moto.url, loopback_certificate(tmp_path)) as proxy:
        bucket = Bucket(proxy.client("s3"), "backups")
        small = local(tmp_path, b"content")
        with watched(bucket.client):
            put_file(bucket, small, Sending(), Bodies(0))
            assert body(bucket) == b"content"
            large = local(tmp_path, bytes(range(256)) * (11 << 12), "large")
            noted = Noted(LocalStorage(tmp_path / "data"), "work")
            sending = Sending(connections=2, part_bytes=5 * MIB)
            MultipartUpload(bucket, large, sending, Bodies(0), noted).run()
        assert body(bucket, "large") == large.path.read_bytes()


@pytest.fixture
def rclone() -> Iterator[MotoServer]:
    """A server in another process: its memory is not ours."""
    with rclone_server() as server:
        server.bucket("backups")
        yield server


def test_memory_does_not_grow_with_the_file(rclone: MotoServer, tmp_path: Path) -> None:
    peaks = []
    for mib in (8, 64):
        file = local(tmp_path, bytes(mib * MIB), f"file{mib}")
        bucket = Bucket(rclone.client("s3"), "backups")
        sending = Sending(connections=2, part_bytes=5 * MIB)
        upload = MultipartUpload(
            bucket, file, sending, Bodies(0), Noted(LocalStorage(tmp_path / "data"), "work")
        )
        tracemalloc.start()
        upload.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < max(peaks[0], 8 * MIB) + 4 * MIB


def test_client_has_a_connection_for_each_request_and_slows_down_together() -> None:
    config = client_config("s3")
    assert config.max_pool_connections > BOUNDS["s3_connections"][1]
    assert config.retries == {"mode": "adaptive", "total_max_attempts": 8}
