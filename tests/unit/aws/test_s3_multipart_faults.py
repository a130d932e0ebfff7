"""Large files under faults: what is kept for the next try, and what is begun anew."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.moto_server import MotoServer
from tests.unit.aws.test_s3_multipart import PARTS, SIZE, content, large_file, left, uploading

from imagenet_etl.aws.s3_bucket import Bucket, LocalFile
from imagenet_etl.aws.s3_multipart import MultipartUpload
from imagenet_etl.aws.s3_unfinished import Noted
from imagenet_etl.aws.s3_upload import MIB, Bodies, Sending
from imagenet_etl.errors import CloudError, CloudUnavailable, DatasetDamaged, KeyExists
from imagenet_etl.files import hash_file
from imagenet_etl.storage import LocalStorage


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    return large_file(tmp_path)


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(LocalStorage(tmp_path / "data"), "work/s3_uploads")


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        yield proxy


def cut_off(proxy: FaultProxy, file: LocalFile, noted: Noted) -> None:
    """Leave an upload whose parts are all there."""
    proxy.drop_request("CompleteMultipartUpload", times=99)
    with pytest.raises(CloudUnavailable):
        uploading(proxy, file, noted, retries={"total_max_attempts": 1}).run()
    proxy.heal()


def test_part_of_another_content_is_sent_again(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    cut_off(proxy, file, noted)
    upload = noted.get("s3://backups/large")
    proxy.client("s3").upload_part(
        Bucket="backups", Key="large", UploadId=upload, PartNumber=2,
        Body=file.path.read_bytes()[: 5 * MIB],
    )  # fmt: skip
    again = uploading(proxy, file, noted)
    again.run()
    assert again.resumed == 3
    assert content(proxy) == file.path.read_bytes()


def test_upload_of_another_content_of_equal_size_is_begun_anew(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    cut_off(proxy, file, noted)
    file.path.write_bytes(bytes(SIZE))
    other = replace(file, sha256=hash_file(file.path, "sha256")["sha256"])
    again = uploading(proxy, other, noted)
    assert again.run().digest == other.sha256
    assert again.resumed == 0
    assert content(proxy) == bytes(SIZE)
    assert left(proxy) == []


@pytest.mark.parametrize("sending", [
    replace(PARTS, options={"StorageClass": "STANDARD_IA"}), replace(PARTS, part_bytes=6 * MIB),
])  # fmt: skip
def test_upload_that_was_begun_in_another_way_is_begun_anew(
    proxy: FaultProxy, file: LocalFile, noted: Noted, sending: Sending
) -> None:
    cut_off(proxy, file, noted)
    bucket = Bucket(proxy.client("s3"), "backups")
    again = MultipartUpload(bucket, file, sending, Bodies(0), noted)
    again.run()
    assert again.resumed == 0
    assert left(proxy) == []


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied", "SomethingNew"])
def test_refusal_of_a_part_keeps_what_was_sent(
    proxy: FaultProxy, file: LocalFile, noted: Noted, code: str
) -> None:
    proxy.answer("UploadPart", status=403, code=code, skip=2, times=99)
    with pytest.raises(CloudError, match=code):
        uploading(proxy, file, noted).run()
    proxy.heal()
    again = uploading(proxy, file, noted)
    again.run()
    assert again.resumed >= 1
    assert content(proxy) == file.path.read_bytes()


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch"])
def test_part_that_was_damaged_on_its_way_is_sent_again(
    proxy: FaultProxy, file: LocalFile, noted: Noted, code: str
) -> None:
    proxy.answer("UploadPart", status=400, code=code, times=2)
    uploading(proxy, file, noted).run()
    assert content(proxy) == file.path.read_bytes()


def test_part_that_always_arrives_damaged_is_transient_and_the_others_are_kept(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    proxy.answer("UploadPart", status=400, code="BadDigest", skip=1, times=99)
    with pytest.raises(CloudUnavailable, match="arrives damaged"):
        uploading(proxy, file, noted).run()
    assert len(left(proxy)) == 1


def test_lost_parts_begin_the_upload_anew(proxy: FaultProxy, file: LocalFile, noted: Noted) -> None:
    proxy.answer("CompleteMultipartUpload", status=400, code="InvalidPart")
    with pytest.raises(CloudUnavailable, match="InvalidPart"):
        uploading(proxy, file, noted).run()
    assert left(proxy) == []
    uploading(proxy, file, noted).run()
    assert content(proxy) == file.path.read_bytes()


def test_completion_whose_own_body_arrives_damaged_is_transient_and_keeps_the_parts(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    code = "XAmzContentSHA256Mismatch"
    proxy.answer("CompleteMultipartUpload", status=400, code=code, times=1)
    with pytest.raises(CloudUnavailable, match=code):
        uploading(proxy, file, noted).run()
    again = uploading(proxy, file, noted)
    again.run()
    assert again.resumed == 4


def test_abort_that_is_refused_does_not_hide_why(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    file.path.write_bytes(bytes(SIZE))
    proxy.answer("AbortMultipartUpload", status=403, code="AccessDenied", times=99)
    with pytest.raises(DatasetDamaged, match="large is not what it was"):
        uploading(proxy, file, noted).run()


def test_conflict_at_the_completion_gives_the_upload_up(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    proxy.answer("CompleteMultipartUpload", status=409, code="ConditionalRequestConflict")
    with pytest.raises(CloudUnavailable, match="met another writer"):
        uploading(proxy, file, noted).run()
    assert left(proxy) == []
    assert noted.get("s3://backups/large") == ""


def test_taken_key_is_found_before_the_first_part_is_sent(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    cut_off(proxy, file, noted)
    proxy.client("s3").put_object(Bucket="backups", Key="large", Body=b"theirs")
    proxy.calls.clear()
    with pytest.raises(KeyExists):
        uploading(proxy, file, noted).run()
    assert proxy.calls == ["HeadObject", "AbortMultipartUpload"]


def test_failure_of_another_file_ends_the_upload_and_keeps_it(
    proxy: FaultProxy, file: LocalFile, noted: Noted
) -> None:
    cut_off(proxy, file, noted)
    bodies = Bodies(0)
    bodies.stop(DatasetDamaged("another file"))
    proxy.calls.clear()
    with pytest.raises(CloudUnavailable, match="another file has failed"):
        MultipartUpload(Bucket(proxy.client("s3"), "backups"), file, PARTS, bodies, noted).run()
    assert "UploadPart" not in proxy.calls
    assert len(left(proxy)) == 1
