"""What counts as backed up, and backups of very many files."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.archives import build_of, tiny_zip
from tests.support.moto_server import MotoServer
from tests.unit.aws.conftest import with_settings
from tests.unit.aws.test_s3_backup import ARCHIVE, PREFIX, ROOT, calls_of, forget, objects

from imagenet_etl.aws import s3_plan, s3_send, s3_sorted
from imagenet_etl.aws.s3_backup import backup_is_there, backup_is_whole
from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_contents import Contents, Group
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.aws.s3_plan import plan_backup
from imagenet_etl.build import Build
from imagenet_etl.errors import CloudUnavailable
from imagenet_etl.pipeline import receipts_up_to, run_stage
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place


@pytest.fixture
def build(packed: Build, moto: MotoServer) -> Iterator[Build]:
    moto.bucket("backups")
    yield with_settings(
        packed, moto.client, s3_uri="s3://backups/datasets", back_up=("dataset", "archives")
    )
    forget(packed)


def keys_of(moto: MotoServer, end: str) -> list[str]:
    return [ROOT + key for key in objects(moto, ROOT) if key.endswith(end)]


@pytest.mark.parametrize("end", ["classes.tsv", "images.parquet", f"/{ARCHIVE}", ".JPEG"])
def test_object_that_was_deleted_or_replaced_makes_the_backup_not_whole(
    build: Build, moto: MotoServer, end: str
) -> None:
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert backup_is_whole(build, receipt)
    key = keys_of(moto, end)[0]
    client = moto.client("s3")
    old = client.get_object(Bucket="backups", Key=key)["Body"].read()
    client.put_object(Bucket="backups", Key=key, Body=b"x" * len(old))
    assert not backup_is_whole(build, receipt)
    client.delete_object(Bucket="backups", Key=key)
    assert not backup_is_whole(build, receipt)
    assert backup_is_there(build, receipt)


def test_lost_ledger_makes_no_backup_whole(build: Build) -> None:
    receipt = run_stage(build, "back_up_to_s3").receipt
    build.storage.delete(f"{build.work}/s3_ledger")
    assert not backup_is_whole(build, receipt)


def test_backup_without_a_mark_is_not_there(build: Build) -> None:
    receipt = Receipt("back_up_to_s3", "d", "base", (), {}, {"marks": {}})
    assert not backup_is_there(build, receipt)


def test_mark_that_vanishes_fails_the_backup(build: Build, moto: MotoServer) -> None:
    client = moto.client("s3")

    def remove(**_: object) -> None:
        if keys_of(moto, "manifest.json"):
            moto.client("s3").delete_object(Bucket="backups", Key=keys_of(moto, ".backup.json")[0])

    client.meta.events.register("after-call.s3.PutObject", remove)
    with pytest.raises(CloudUnavailable, match="is not there"):
        run_stage(replace(build, aws=lambda _: client), "back_up_to_s3")


def test_index_of_another_make_is_left_out_and_all_else_is_backed_up(
    build: Build, moto: MotoServer
) -> None:
    untar = receipts_up_to(build, "untar")["untar"]
    key = f"{ROOT}archives/index/{untar.stage_digest}/images.parquet"
    moto.client("s3").put_object(Bucket="backups", Key=key, Body=b"by another pyarrow")
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert "holds something else" in receipt.facts["report"]["left_out"]["image index"]
    assert {f"{PREFIX}manifest.json"} < receipt.facts["marks"].keys()
    assert not keys_of(moto, "receipt.json")
    assert run_stage(build, "back_up_to_s3").reused


def test_every_object_but_the_catalog_bears_the_key_and_the_tags(
    build: Build, moto: MotoServer
) -> None:
    chosen = replace(build.settings, s3_kms_key="alias/backup", s3_tags={"team": "ml"})
    run_stage(replace(build, settings=chosen), "back_up_to_s3")
    client = moto.client("s3")
    for key in keys_of(moto, ""):
        head = client.head_object(Bucket="backups", Key=key)
        assert (head["SSEKMSKeyId"], head["BucketKeyEnabled"]) == ("alias/backup", True), key
        tags = client.get_object_tagging(Bucket="backups", Key=key)["TagSet"]
        assert tags == [{"Key": "team", "Value": "ml"}], key


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_plan, "BATCH_FILES", 4)
    monkeypatch.setattr(s3_send, "_LISTED_ABOVE", 2)
    monkeypatch.setattr(s3_sorted, "RUN_ROWS", 5)


@pytest.mark.usefixtures("small_batches")
def test_batches_leave_the_same_objects_and_the_same_ledger(build: Build, moto: MotoServer) -> None:
    receipt = run_stage(build, "back_up_to_s3").receipt
    assert backup_is_whole(build, receipt)
    assert receipt.facts["noted"]["version"] == len(objects(moto)) - 1
    build.storage.delete(f"{build.work}/back_up_to_s3")
    client = moto.client("s3")
    calls = calls_of(client)
    again = run_stage(replace(build, aws=lambda _: client), "back_up_to_s3").receipt
    assert again.facts["uploaded"] == 0
    assert not [call for call in calls if call.startswith("Put")]
    assert backup_is_whole(build, again)


@pytest.mark.usefixtures("small_batches")
def test_batch_that_fails_keeps_what_earlier_ones_have_noted(
    build: Build, moto: MotoServer
) -> None:
    client = moto.client("s3", retries={"total_max_attempts": 1})
    puts = iter(range(99))

    def fail(**_: object) -> None:
        if next(puts) == 12:
            raise CloudUnavailable("the link is down")

    client.meta.events.register("before-call.s3.PutObject", fail)
    chosen = replace(build.settings, s3_connections=1, back_up=("dataset",))
    with pytest.raises(CloudUnavailable):
        run_stage(replace(build, settings=chosen, aws=lambda _: client), "back_up_to_s3")
    assert len(objects(moto)) == 12
    receipt = run_stage(replace(build, settings=chosen), "back_up_to_s3").receipt
    assert receipt.facts["report"]["skipped"] == {"unchanged since it was last looked at": 12}


class NoneThere:
    """A client of an empty bucket."""

    def get_paginator(self, _name: str) -> "NoneThere":
        return self

    def paginate(self, **_: object) -> Iterator[dict[str, object]]:
        yield {}


def test_memory_of_a_plan_does_not_grow_with_the_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = replace(build_of(tmp_path, tiny_zip(tmp_path)), aws=lambda _service: NoneThere())
    build = with_settings(build, build.aws, s3_uri="s3://backups/datasets")
    verified = Receipt("verify", "d", "base", (), {}, {"version": "v1"})
    here = tmp_path / "file"
    here.touch()

    class Files:
        def __init__(self, count: int) -> None:
            self.count = count

        def __iter__(self) -> Iterator[LocalFile]:
            return (LocalFile(f"v1/{n:08d}", here, 1, "ab" * 32) for n in range(self.count))

    def peak(count: int) -> int:
        contents = Contents(
            backup_place("s3://backups/datasets", build.facts.name),
            (Group("version", "v1/", Files(count)),),
        )
        monkeypatch.setattr(s3_plan, "contents_of", lambda _place: contents)
        tracemalloc.start()
        plan = plan_backup(Place(build, {"verify": verified}, "", ""))
        assert sum(1 for _ in plan.send()) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    monkeypatch.setattr(s3_plan, "BATCH_FILES", 500)
    peak(500)
    assert peak(20_000) < peak(2_000) + 200_000
