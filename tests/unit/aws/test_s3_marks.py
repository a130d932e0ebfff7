"""The commit marks of archives."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.moto_server import MotoServer

from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_marks import (
    ArchiveMark,
    parse_mark,
    read_mark,
    read_marks,
    write_mark,
)
from imagenet_etl.errors import BackupIncomplete, CloudNotFound, SchemaTooNew

MARK = ArchiveMark("a.tar", 12, {"sha256": "ab" * 32, "md5": "cd" * 16}, "tar", "https://x/a.tar")
PLACE = backup_place("s3://backups/datasets", "tiny")
TEXT = st.text(st.characters(codec="utf-8"))
DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(TEXT, st.integers(0, 1 << 50), DIGEST, TEXT, TEXT)
def test_mark_is_read_as_it_was_written(
    name: str, size: int, sha256: str, kind: str, source: str
) -> None:
    mark = ArchiveMark(name, size, {"sha256": sha256}, kind, source)
    assert parse_mark(mark.to_json("key"), "s3://b/k") == mark


def test_mark_lies_beside_its_archive(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    write_mark(client, PLACE, MARK)
    key = f"datasets/tiny/archives/a.tar/{MARK.sha256[:16]}.backup.json"
    fields = json.loads(client.get_object(Bucket="backups", Key=key)["Body"].read())
    assert fields == {
        "schema_version": 1, "name": "a.tar", "size": 12, "digests": MARK.digests, "kind": "tar",
        "source": "https://x/a.tar", "key": PLACE.archive("a.tar", MARK.sha256),
    }  # fmt: skip
    assert read_mark(client, PLACE, "a.tar", MARK.sha256) == MARK


def test_archive_without_a_mark_is_told_by_none(moto: MotoServer) -> None:
    moto.bucket("backups")
    assert read_mark(moto.client("s3"), PLACE, "a.tar", MARK.sha256) is None


def test_missing_bucket_is_no_missing_mark(moto: MotoServer) -> None:
    with pytest.raises(CloudNotFound, match="s3://backups does not exist"):
        read_mark(moto.client("s3"), PLACE, "a.tar", MARK.sha256)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b"{}", MARK.to_json("key")[:-30],
    MARK.to_json("key").replace(b"abab", b"ab"), MARK.to_json("key").replace(b" 12,", b" -12,"),
    MARK.to_json("key").replace(b" 12,", b' "12",'),
])  # fmt: skip
def test_damaged_mark_is_refused(data: bytes) -> None:
    with pytest.raises(BackupIncomplete, match="no commit mark"):
        parse_mark(data, "s3://b/k")


def test_mark_of_a_newer_version_is_refused_kindly() -> None:
    data = MARK.to_json("key").replace(b'"schema_version": 1', b'"schema_version": 2')
    with pytest.raises(SchemaTooNew, match="Upgrade this package"):
        parse_mark(data, "s3://b/k")


@pytest.mark.parametrize(("name", "sha256"), [
    ("b.tar", MARK.sha256), ("a.tar", MARK.sha256[:16] + "0" * 48), ("a.tar", "0" * 64),
])  # fmt: skip
def test_mark_of_another_archive_is_refused(moto: MotoServer, name: str, sha256: str) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    key = PLACE.archive_mark(name, sha256)
    client.put_object(Bucket="backups", Key=key, Body=MARK.to_json("key"))
    with pytest.raises(BackupIncomplete, match="mark of another archive"):
        read_mark(client, PLACE, name, sha256)


OTHER = replace(MARK, digests={"sha256": "ef" * 32})


def test_each_content_of_an_archive_keeps_its_own_mark(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    write_mark(client, PLACE, OTHER)
    time.sleep(1.1)  # S3 tells times in seconds
    write_mark(client, PLACE, MARK)
    write_mark(client, PLACE, replace(MARK, name="a.tar.gz"))
    client.put_object(Bucket="backups", Key=PLACE.archive("a.tar", MARK.sha256), Body=b"x")
    assert read_marks(client, PLACE, "a.tar") == [MARK, OTHER]
    assert read_mark(client, PLACE, "a.tar", OTHER.sha256) == OTHER


def test_mark_that_is_there_is_not_written_anew(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    write_mark(client, PLACE, MARK)
    write_mark(client, PLACE, replace(MARK, source="/elsewhere/a.tar"))
    assert read_mark(client, PLACE, "a.tar", MARK.sha256) == MARK


def test_damaged_mark_is_replaced_and_told_until_then(moto: MotoServer) -> None:
    moto.bucket("backups")
    client = moto.client("s3")
    key = PLACE.archive_mark("a.tar", MARK.sha256)
    client.put_object(Bucket="backups", Key=key, Body=b"{")
    with pytest.raises(BackupIncomplete, match="no commit mark"):
        read_marks(client, PLACE, "a.tar")
    write_mark(client, PLACE, OTHER)
    assert read_marks(client, PLACE, "a.tar") == [OTHER]
    write_mark(client, PLACE, MARK)
    assert read_mark(client, PLACE, "a.tar", MARK.sha256) == MARK


def test_archive_that_was_never_backed_up_has_no_marks(moto: MotoServer) -> None:
    moto.bucket("backups")
    assert read_marks(moto.client("s3"), PLACE, "a.tar") == []
