"""Backing a version and its archives up, and finding that they are backed up."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import version_folder, with_settings

from imagenet_etl.aws import s3_backup, s3_send
from imagenet_etl.aws.s3_backup import back_up_to_s3
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_marks import read_marks
from imagenet_etl.aws.s3_plan import BackupPlan, plan_backup
from imagenet_etl.build import Build
from imagenet_etl.errors import (
    BackupConflict,
    BackupIncomplete,
    CloudNotFound,
    CloudUnavailable,
    DatasetDamaged,
    NothingToDo,
)
from imagenet_etl.files import hash_file
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place

ROOT = "datasets/tiny_imagenet/"
PREFIX = f"{ROOT}v1/"
ARCHIVE = "tiny-imagenet-200.zip"
PLACE = backup_place("s3://backups/datasets", "tiny_imagenet")


def backed_up(packed: Build, server: MotoServer, **settings: Any) -> Build:
    return with_settings(packed, server.client, s3_uri="s3://backups/datasets", **settings)


@pytest.fixture
def build(packed: Build, moto: MotoServer) -> Iterator[Build]:
    moto.bucket("backups")
    yield backed_up(packed, moto)
    forget(packed)


@pytest.fixture
def on_each(packed: Build, s3: MotoServer) -> Iterator[Build]:
    yield backed_up(packed, s3)
    forget(packed)


def forget(build: Build) -> None:
    """Leave nothing on this machine of what was backed up."""
    for name in ("back_up_to_s3", "s3_ledger", "s3_uploads"):
        build.storage.delete(f"{build.work}/{name}")


def objects(server: MotoServer, prefix: str = PREFIX) -> dict[str, Any]:
    reply = server.client("s3").list_objects_v2(Bucket="backups", Prefix=prefix)
    return {item["Key"].removeprefix(prefix): item for item in reply.get("Contents", ())}


def calls_of(client: Any) -> list[str]:
    """Return a list that every call of the client is added to with its key, the catalog's left out.

    That is looked at by every backup, to see that nobody is removing the version.
    """
    calls: list[str] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        if not params.get("Key", "").endswith("catalog.json"):
            calls.append(f"{model.name} {params.get('Key', '').removeprefix(PREFIX)}".strip())

    client.meta.events.register("provide-client-params.s3", note)
    return calls


def test_every_file_is_uploaded_with_its_digest(on_each: Build, s3: MotoServer) -> None:
    receipt = run_stage(on_each, "back_up_to_s3").receipt
    files = files_below(version_folder(on_each))
    assert set(objects(s3)) == set(files)
    assert receipt.facts["uploaded"] == len(files)
    assert receipt.facts["report"]["sent_bytes"] == receipt.counts["bytes"]
    for name in ("manifest.json", "recordio/train/train_00000.rec"):
        head = s3.client("s3").head_object(Bucket="backups", Key=PREFIX + name)
        digest = hash_file(version_folder(on_each) / name, "sha256")["sha256"]
        assert {k.lower(): v for k, v in head["Metadata"].items()} == {"sha256": digest}


@pytest.mark.parametrize(("schema", "is_counted"), [(2, True), (1, False), (3, False)])
def test_a_go_that_fails_at_its_end_leaves_its_count_to_the_next(
    build: Build, monkeypatch: pytest.MonkeyPatch, schema: int, is_counted: bool
) -> None:
    def unavailable(*_: object) -> dict[str, str]:
        raise CloudUnavailable("the marks")

    sliced = replace(build, slice_s=3600.0)
    with monkeypatch.context() as patch:
        patch.setattr(s3_backup, "_marks", unavailable)
        patch.setattr(s3_backup, "_SENT_SCHEMA", schema)
        with pytest.raises(CloudUnavailable, match="the marks"):
            run_stage(sliced, "back_up_to_s3")
    receipt = run_stage(sliced, "back_up_to_s3").receipt
    files = receipt.counts["files"]
    told = (receipt.facts["uploaded"], receipt.facts["skipped"])
    assert told == ((files, 0) if is_counted else (0, files))


def test_second_run_is_reused_and_uploads_nothing(on_each: Build, s3: MotoServer) -> None:
    run_stage(on_each, "back_up_to_s3")
    before = objects(s3)
    assert run_stage(on_each, "back_up_to_s3").reused
    assert objects(s3) == before


def test_lost_receipt_costs_a_listing_and_not_a_head_for_each_file(
    on_each: Build, s3: MotoServer
) -> None:
    run_stage(on_each, "back_up_to_s3")
    before = objects(s3)
    on_each.storage.delete(f"{on_each.work}/back_up_to_s3")
    client = s3.client("s3")
    calls = calls_of(client)
    receipt = run_stage(replace(on_each, aws=lambda _: client), "back_up_to_s3").receipt
    assert receipt.facts["uploaded"] == 0
    assert receipt.facts["skipped"] == len(before)
    assert set(calls) == {"ListObjectsV2", "ListMultipartUploads", "HeadObject manifest.json"}
    assert objects(s3) == before


def test_other_machine_asks_about_each_object_and_sends_none(
    on_each: Build, s3: MotoServer
) -> None:
    run_stage(on_each, "back_up_to_s3")
    before = objects(s3)
    forget(on_each)
    client = s3.client("s3")
    calls = calls_of(client)
    receipt = run_stage(replace(on_each, aws=lambda _: client), "back_up_to_s3").receipt
    assert receipt.facts["report"]["skipped"] == {"the same is there": len(before)}
    assert not [call for call in calls if call.startswith("Put")]
    assert {f"HeadObject {name}" for name in before} <= set(calls)


def test_object_that_was_replaced_behind_the_ledger_is_a_conflict(
    build: Build, moto: MotoServer
) -> None:
    run_stage(build, "back_up_to_s3")
    size = (version_folder(build) / "classes.tsv").stat().st_size
    moto.client("s3").put_object(Bucket="backups", Key=f"{PREFIX}classes.tsv", Body=b"x" * size)
    build.storage.delete(f"{build.work}/back_up_to_s3")
    with pytest.raises(BackupConflict, match=r"classes\.tsv holds something else.*sha256"):
        run_stage(build, "back_up_to_s3")


def test_changed_time_of_a_file_sends_nothing(build: Build, moto: MotoServer) -> None:
    run_stage(build, "back_up_to_s3")
    done = receipts_up_to(build, "verify")
    path = version_folder(build) / "classes.tsv"
    before = path.stat()
    os.utime(path, ns=(0, 0))
    try:
        assert list(plan_of(build, done).send()) == []
    finally:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_interrupted_backup_is_completed_and_its_manifest_comes_last(
    build: Build, moto: MotoServer
) -> None:
    run_stage(build, "back_up_to_s3")
    before = objects(moto)
    for name in ("manifest.json", "classes.tsv"):
        moto.client("s3").delete_object(Bucket="backups", Key=PREFIX + name)
    client = moto.client("s3")
    calls = calls_of(client)
    run_stage(replace(build, aws=lambda _: client), "back_up_to_s3")
    sent = [call for call in calls if call.startswith("Put")]
    assert sent == ["PutObject classes.tsv", "PutObject manifest.json"]
    assert set(objects(moto)) == set(before)


def test_lost_manifest_makes_the_backup_not_there(build: Build, moto: MotoServer) -> None:
    run_stage(build, "back_up_to_s3")
    moto.client("s3").delete_object(Bucket="backups", Key=f"{PREFIX}manifest.json")
    assert not run_stage(build, "back_up_to_s3").reused
    assert "manifest.json" in objects(moto)


def test_key_that_holds_something_else_is_a_conflict_and_stays(
    build: Build, moto: MotoServer
) -> None:
    moto.client("s3").put_object(Bucket="backups", Key=f"{PREFIX}classes.tsv", Body=b"mine")
    with pytest.raises(BackupConflict, match=r"classes\.tsv holds something else"):
        run_stage(build, "back_up_to_s3")
    reply = moto.client("s3").get_object(Bucket="backups", Key=f"{PREFIX}classes.tsv")
    assert reply["Body"].read() == b"mine"
    assert set(objects(moto)) == {"classes.tsv"}


def test_archive_goes_up_with_its_index_and_their_marks_come_last(
    packed: Build, s3: MotoServer
) -> None:
    client = s3.client("s3")
    build = with_settings(
        packed, lambda _: client, s3_uri="s3://backups/datasets", back_up=("archives",)
    )
    calls = calls_of(client)
    receipt = run_stage(build, "back_up_to_s3").receipt
    forget(packed)
    untar = receipts_up_to(build, "untar")["untar"]
    index = f"index/{untar.stage_digest}"
    tables = [f"{index}/{name}" for name in ("images.parquet", "side_files.parquet")]
    sent = [call.split(f"{ROOT}archives/")[1] for call in calls if call.startswith("Put")]
    assert f"{ROOT}archives/{sent[0]}" == archive_key(build)
    assert f"{ROOT}archives/{sent[1]}" == mark_key(build)
    assert sorted(sent[2:4]) == tables
    assert sent[4:] == [f"{index}/receipt.json"]
    assert receipt.facts["manifest_etag"] == ""
    assert set(receipt.facts["marks"]) == {f"{ROOT}archives/{sent[1]}", f"{ROOT}archives/{sent[4]}"}


def archive_key(build: Build) -> str:
    sha256 = hash_file(Path(build.settings.sources[ARCHIVE]), "sha256")["sha256"]
    return f"{ROOT}archives/{ARCHIVE}/{sha256[:16]}/{ARCHIVE}"


def mark_key(build: Build) -> str:
    return f"{archive_key(build).rpartition('/')[0]}.backup.json"


def test_mark_of_an_archive_tells_what_it_is(build: Build, moto: MotoServer) -> None:
    build = with_settings(build, moto.client, back_up=("archives", "dataset"))
    run_stage(build, "back_up_to_s3")
    (mark,) = read_marks(moto.client("s3"), PLACE, ARCHIVE)
    path = Path(build.settings.sources[ARCHIVE])
    assert (mark.size, mark.kind, mark.source) == (path.stat().st_size, "zip", str(path))
    assert mark.sha256 == hash_file(path, "sha256")["sha256"]
    assert "manifest.json" in objects(moto)


def test_damaged_mark_is_written_anew(build: Build, moto: MotoServer) -> None:
    build = with_settings(build, moto.client, back_up=("archives",))
    run_stage(build, "back_up_to_s3")
    key = mark_key(build)
    good = moto.client("s3").get_object(Bucket="backups", Key=key)["Body"].read()
    moto.client("s3").put_object(Bucket="backups", Key=key, Body=good[:20])
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert receipt.facts["report"]["sent_marks"] == [ARCHIVE]
    assert receipt.facts["uploaded"] == 0
    assert moto.client("s3").get_object(Bucket="backups", Key=key)["Body"].read() == good


def test_archive_that_was_let_go_is_fine_if_the_bucket_has_it(
    build: Build, moto: MotoServer, tmp_path: Path
) -> None:
    build = with_settings(build, moto.client, back_up=("archives",))
    path = Path(build.settings.sources[ARCHIVE])
    done = receipts_up_to(build, "verify")
    run_stage(build, "back_up_to_s3")
    gone = archive_key(build)
    kept = path.rename(tmp_path / "kept")
    try:
        lines = plan_of(build, done).lines()
        assert lines[-1] == "0 files to send, 0 bytes"
        moto.client("s3").delete_object(Bucket="backups", Key=gone)
        with pytest.raises(BackupIncomplete, match=r"is gone, and the backup does not have it"):
            plan_of(build, done)
    finally:
        kept.rename(path)


def plan_of(build: Build, done: dict[str, Receipt]) -> BackupPlan:
    return plan_backup(Place(build, done, "digest", "base"))


def test_plan_names_what_would_be_sent_and_sends_nothing(build: Build, moto: MotoServer) -> None:
    done = receipts_up_to(build, "verify")
    lines = plan_of(build, done).lines()
    files = files_below(version_folder(build))
    assert lines[-1].startswith(f"{len(files)} files to send")
    assert sum(f"s3://backups/{PREFIX}" in line for line in lines) == len(files)
    assert objects(moto) == {}


def test_storage_class_key_and_tags_are_those_that_were_asked_for(
    build: Build, moto: MotoServer
) -> None:
    build = with_settings(
        build, moto.client, s3_storage_class="STANDARD_IA", s3_kms_key="alias/backup",
        s3_tags={"team": "ml + data"}, back_up=("archives",),
    )  # fmt: skip
    run_stage(build, "back_up_to_s3")
    client, key = moto.client("s3"), archive_key(build)
    head = client.head_object(Bucket="backups", Key=key)
    assert (head["StorageClass"], head["SSEKMSKeyId"]) == ("STANDARD_IA", "alias/backup")
    mark = client.head_object(Bucket="backups", Key=mark_key(build))
    assert "StorageClass" not in mark and mark["SSEKMSKeyId"] == "alias/backup"
    tags = client.get_object_tagging(Bucket="backups", Key=key)["TagSet"]
    assert tags == [{"Key": "team", "Value": "ml + data"}]


def test_damaged_file_is_not_backed_up(build: Build, moto: MotoServer) -> None:
    done = receipts_up_to(build, "verify")
    path = version_folder(build) / "classes.tsv"
    good, before = path.read_bytes(), path.stat()
    path.write_bytes(good + b"more")
    try:
        with pytest.raises(DatasetDamaged, match=r"classes\.tsv is not what it was"):
            back_up_to_s3(Place(build, done, "digest", "base"))
    finally:
        path.write_bytes(good)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not {"classes.tsv", "manifest.json"} & set(objects(moto))


def test_missing_bucket_is_named(packed: Build, moto: MotoServer) -> None:
    build = with_settings(packed, moto.client, s3_uri="s3://no-such-bucket")
    with pytest.raises(CloudNotFound, match="s3://no-such-bucket does not exist"):
        run_stage(build, "back_up_to_s3")


@pytest.mark.parametrize("settings", [{}, {"s3_uri": "s3://backups", "back_up": ()}])
def test_nothing_is_done_unless_it_was_asked_for(packed: Build, settings: dict[str, Any]) -> None:
    with pytest.raises(NothingToDo, match=r"nothing is backed up|neither the dataset"):
        run_stage(with_settings(packed, packed.aws, **settings), "back_up_to_s3")


def test_unreachable_endpoint_is_transient(packed: Build) -> None:
    nowhere = MotoServer("http://127.0.0.1:9")
    build = with_settings(
        packed,
        lambda service: nowhere.client(service, retries={"total_max_attempts": 1}),
        s3_uri="s3://backups",
    )
    with pytest.raises(CloudUnavailable, match="got no answer"):
        run_stage(build, "back_up_to_s3")


def test_many_files_are_verified_by_a_listing_and_what_differs_by_head(
    build: Build, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_send, "_LISTED_ABOVE", 3)
    client = moto.client("s3")
    calls = calls_of(client)
    run_stage(replace(build, aws=lambda _: client), "back_up_to_s3")
    heads = {call for call in calls if call.startswith("HeadObject")}
    assert heads == {"HeadObject manifest.json"}
    forget(build)
    moto.client("s3").delete_object(Bucket="backups", Key=f"{PREFIX}manifest.json")
    assert run_stage(build, "back_up_to_s3").receipt.facts["uploaded"] == 1


def test_archive_that_changed_gets_a_place_and_a_mark_of_its_own(
    tmp_path: Path, moto: MotoServer
) -> None:
    moto.bucket("backups")
    there = set[str]()
    for changes in ({}, {"train/n00000001/images/n00000001_3.JPEG": None}):
        archive = tiny_zip(tmp_path, changes)
        build = build_of(tmp_path, archive, s3_uri="s3://backups/datasets", back_up=("archives",))
        build = replace(build, aws=moto.client)
        run_stages(build)
        run_stage(build, "back_up_to_s3")
        assert {archive_key(build), mark_key(build)} <= objects(moto, "").keys()
        assert there < objects(moto, "").keys()
        there = set(objects(moto, ""))
    assert len(read_marks(moto.client("s3"), PLACE, ARCHIVE)) == 2
