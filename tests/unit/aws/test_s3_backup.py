"""Backing a version up, and finding that it is backed up."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import version_folder, with_settings

from imagenet_etl.aws import s3_upload
from imagenet_etl.aws.s3_upload import upload_new
from imagenet_etl.build import Build
from imagenet_etl.errors import (
    AccessDenied,
    BackupConflict,
    CloudNotFound,
    CloudUnavailable,
    KeyExists,
    NothingToDo,
)
from imagenet_etl.files import hash_file
from imagenet_etl.pipeline import run_stage

PREFIX = "datasets/tiny_imagenet/v1/"


@pytest.fixture
def build(packed: Build, moto: MotoServer) -> Iterator[Build]:
    moto.bucket("backups")
    yield with_settings(packed, moto.client, s3_uri="s3://backups/datasets")
    packed.storage.delete(f"{packed.work}/back_up_to_s3")


def objects(moto: MotoServer) -> dict[str, Any]:
    reply = moto.client("s3").list_objects_v2(Bucket="backups")
    return {item["Key"].removeprefix(PREFIX): item for item in reply.get("Contents", ())}


def test_every_file_is_uploaded_with_its_digest(build: Build, moto: MotoServer) -> None:
    receipt = run_stage(build, "back_up_to_s3").receipt
    files = files_below(version_folder(build))
    assert set(objects(moto)) == set(files)
    assert receipt.facts["uploaded"] == len(files)
    for name in ("manifest.json", "recordio/train/train_00000.rec"):
        head = moto.client("s3").head_object(Bucket="backups", Key=PREFIX + name)
        digest = hash_file(version_folder(build) / name, "sha256")["sha256"]
        assert head["Metadata"]["sha256"] == digest


def test_second_run_is_reused_and_uploads_nothing(build: Build, moto: MotoServer) -> None:
    run_stage(build, "back_up_to_s3")
    before = objects(moto)
    assert run_stage(build, "back_up_to_s3").reused
    assert objects(moto) == before


def test_lost_receipt_finds_everything_there(build: Build, moto: MotoServer) -> None:
    run_stage(build, "back_up_to_s3")
    before = objects(moto)
    build.storage.delete(f"{build.work}/back_up_to_s3")
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert receipt.facts["uploaded"] == 0
    assert objects(moto) == before


def test_interrupted_backup_is_completed_and_its_manifest_comes_last(
    build: Build, moto: MotoServer
) -> None:
    run_stage(build, "back_up_to_s3")
    before = objects(moto)
    for name in ("manifest.json", "classes.tsv"):
        moto.client("s3").delete_object(Bucket="backups", Key=PREFIX + name)
    client, sent = moto.client("s3"), []
    client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: sent.append(request.url.split("v1/")[1])
    )
    run_stage(replace(build, aws=lambda _: client), "back_up_to_s3")
    assert sent == ["classes.tsv", "manifest.json"]
    assert set(objects(moto)) == set(before)


def test_key_that_holds_something_else_is_a_conflict_and_stays(
    build: Build, moto: MotoServer
) -> None:
    moto.client("s3").put_object(Bucket="backups", Key=f"{PREFIX}classes.tsv", Body=b"mine")
    with pytest.raises(BackupConflict, match=r"classes\.tsv holds something else"):
        run_stage(build, "back_up_to_s3")
    reply = moto.client("s3").get_object(Bucket="backups", Key=f"{PREFIX}classes.tsv")
    assert reply["Body"].read() == b"mine"
    assert "manifest.json" not in objects(moto)


def test_missing_bucket_is_named(packed: Build, moto: MotoServer) -> None:
    build = with_settings(packed, moto.client, s3_uri="s3://no-such-bucket")
    with pytest.raises(CloudNotFound, match="s3://no-such-bucket does not exist"):
        run_stage(build, "back_up_to_s3")


def test_nothing_is_done_without_a_uri(packed: Build) -> None:
    with pytest.raises(NothingToDo, match="no S3 URI"):
        run_stage(packed, "back_up_to_s3")


def test_unreachable_endpoint_is_transient(packed: Build) -> None:
    nowhere = MotoServer("http://127.0.0.1:9")
    build = with_settings(
        packed,
        lambda service: nowhere.client(service, retries={"total_max_attempts": 1}),
        s3_uri="s3://backups",
    )
    with pytest.raises(CloudUnavailable, match="got no answer"):
        run_stage(build, "back_up_to_s3")


def test_denied_action_names_bucket_and_action(packed: Build, moto: MotoServer) -> None:
    moto.bucket("backups")

    class Denied:
        def get_paginator(self, name: str) -> Any:
            return moto.client("s3").get_paginator(name)

        def put_object(self, **_: Any) -> None:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")

    build = with_settings(packed, lambda _: Denied(), s3_uri="s3://backups")
    with pytest.raises(AccessDenied, match="PutObject on s3://backups was denied"):
        run_stage(build, "back_up_to_s3")


def test_large_file_goes_up_in_parts_and_is_create_only(
    tmp_path: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "MULTIPART_ABOVE", 5 << 20)
    moto.bucket("backups")
    client = moto.client("s3")
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (11 << 12))
    upload_new(client, "backups", "large", path, "ab" * 32)
    reply = client.get_object(Bucket="backups", Key="large")
    assert reply["Body"].read() == path.read_bytes()
    assert reply["ETag"].endswith('-3"')
    with pytest.raises(KeyExists):
        upload_new(client, "backups", "large", path, "ab" * 32)
    assert client.list_multipart_uploads(Bucket="backups").get("Uploads", []) == []


def test_digest_that_does_not_match_is_refused_by_s3(tmp_path: Path, moto: MotoServer) -> None:
    moto.bucket("backups")
    path = tmp_path / "file"
    path.write_bytes(b"content")
    sent: list[str] = []
    client = moto.client("s3")
    client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: sent.append(request.headers["x-amz-checksum-sha256"].decode()),
    )
    upload_new(client, "backups", "file", path, hash_file(path, "sha256")["sha256"])
    assert sent == ["7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M="]
