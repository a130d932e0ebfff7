"""Large files: in parts, checked as a whole, gone on with where they stopped."""

import base64
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.s3_bucket import Bucket, LocalFile
from imagenet_etl.aws.s3_multipart import MultipartUpload
from imagenet_etl.aws.s3_spans import part_size
from imagenet_etl.aws.s3_unfinished import Noted, unfinished
from imagenet_etl.aws.s3_upload import MIB, Bodies, Sending
from imagenet_etl.errors import CloudUnavailable, DatasetDamaged, KeyExists
from imagenet_etl.files import hash_file
from imagenet_etl.storage import LocalStorage

PARTS = Sending(connections=3, multipart_above=5 * MIB, part_bytes=5 * MIB)
SIZE = 16 * MIB + 5


def large_file(tmp_path: Path) -> LocalFile:
    path = tmp_path / "large"
    path.write_bytes(b"".join(n.to_bytes(4, "big") for n in range(SIZE // 4 + 1))[:SIZE])
    return LocalFile("large", path, SIZE, hash_file(path, "sha256")["sha256"])


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    return large_file(tmp_path)


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(LocalStorage(tmp_path / "data"), "work/s3_uploads")


def uploading(server: MotoServer, file: LocalFile, noted: Noted, **config: Any) -> MultipartUpload:
    bucket = Bucket(server.client("s3", **config), "backups")
    return MultipartUpload(bucket, file, PARTS, Bodies(0), noted)


def content(server: MotoServer) -> bytes:
    reply = server.client("s3").get_object(Bucket="backups", Key="large")
    data: bytes = reply["Body"].read()
    return data


def left(server: MotoServer) -> list[Any]:
    return list(unfinished(Bucket(server.client("s3"), "backups"), ""))


def test_large_file_arrives_whole_with_its_digest(
    s3: MotoServer, file: LocalFile, noted: Noted
) -> None:
    stored = uploading(s3, file, noted).run()
    assert (stored.size, stored.digest) == (file.size, file.sha256)
    assert content(s3) == file.path.read_bytes()
    assert left(s3) == []
    assert noted.get("s3://backups/large") == ""


def test_checksum_of_the_whole_is_told_to_s3(
    moto: MotoServer, file: LocalFile, noted: Noted
) -> None:
    moto.bucket("backups")
    upload, told = uploading(moto, file, noted), {}
    upload._bucket.client.meta.events.register(
        "provide-client-params.s3.CompleteMultipartUpload",
        lambda params, **_: told.update(params),
    )
    upload.run()
    crc = zlib.crc32(file.path.read_bytes()).to_bytes(4, "big")
    assert told["ChecksumType"] == "FULL_OBJECT"
    assert told["ChecksumCRC32"] == base64.b64encode(crc).decode()
    assert told["IfNoneMatch"] == "*"
    assert told["MpuObjectSize"] == SIZE


def test_taken_key_is_left_alone_and_no_upload_stays(
    moto: MotoServer, file: LocalFile, noted: Noted
) -> None:
    moto.bucket("backups")
    moto.client("s3").put_object(Bucket="backups", Key="large", Body=b"mine")
    with pytest.raises(KeyExists):
        uploading(moto, file, noted).run()
    assert content(moto) == b"mine"
    assert left(moto) == []


def test_second_try_sends_only_what_is_missing(
    s3: MotoServer, file: LocalFile, noted: Noted
) -> None:
    with fault_proxy(s3.url) as proxy:
        proxy.drop_request("CompleteMultipartUpload", times=99)
        with pytest.raises(CloudUnavailable):
            uploading(proxy, file, noted, retries={"total_max_attempts": 1}).run()
        assert len(left(s3)) == 1
        proxy.heal()
        proxy.calls.clear()
        again = uploading(proxy, file, noted)
        again.run()
    assert again.resumed == 4
    assert "UploadPart" not in proxy.calls
    assert content(s3) == file.path.read_bytes()


def test_upload_that_is_gone_is_begun_anew(s3: MotoServer, file: LocalFile, noted: Noted) -> None:
    noted.put("s3://backups/large", "no-such-upload", "")
    uploading(s3, file, noted).run()
    assert content(s3) == file.path.read_bytes()


def test_lost_reply_to_the_completion_is_no_failure(
    moto: MotoServer, file: LocalFile, noted: Noted
) -> None:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        proxy.drop_reply("CompleteMultipartUpload")
        # moto completes it a second time; S3 answers 412, and the caller finds the same there.
        with suppress(KeyExists):
            uploading(proxy, file, noted).run()
    assert content(moto) == file.path.read_bytes()
    assert noted.get("s3://backups/large") == ""


@pytest.mark.parametrize("damage", ["other byte", "longer", "shorter"])
def test_file_that_is_not_what_it_was_makes_no_object(
    moto: MotoServer, file: LocalFile, noted: Noted, damage: str
) -> None:
    moto.bucket("backups")
    data = bytearray(file.path.read_bytes())
    data[7] ^= damage == "other byte"
    data += b"x" * (damage == "longer")
    file.path.write_bytes(data[:-9] if damage == "shorter" else data)
    with pytest.raises(DatasetDamaged, match="large is not what it was"):
        uploading(moto, file, noted).run()
    assert "Contents" not in moto.client("s3").list_objects_v2(Bucket="backups")
    assert left(moto) == []


def test_parts_are_sent_side_by_side(moto: MotoServer, file: LocalFile, noted: Noted) -> None:
    moto.bucket("backups")
    upload = uploading(moto, file, noted)
    together = threading.Barrier(3, timeout=20)
    waits = iter([True] * 3)

    def wait(**_: Any) -> None:
        if next(waits, False):
            together.wait()

    upload._bucket.client.meta.events.register("before-send.s3.UploadPart", wait)
    upload.run()


@given(st.integers(1, 5 << 40), st.integers(5, 100))
def test_parts_are_never_more_than_ten_thousand(size: int, least_mib: int) -> None:
    part = part_size(size, least_mib * MIB)
    assert part >= least_mib * MIB
    assert -(-size // part) <= 10_000
    assert part == least_mib * MIB or part % MIB == 0
