"""The budget where the data folder is in a bucket: the limit is on each worker's disk."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import CONTENT, FACTS
from tests.support.moto_server import MotoServer
from tests.unit.preflight.rooms import WHOLE, Room

from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.leases import Owner
from imagenet_etl.preflight.budget import Budget, budget_of, check_budget, told
from imagenet_etl.preflight.report import preflight_lines

GB = 10**9


@pytest.fixture
def bucket(moto: MotoServer) -> MotoServer:
    moto.bucket("sets")
    return moto


def build_in(moto: MotoServer, dataset: str, **settings: Any) -> Build:
    values = {"data_dir": "s3://sets/data", **facts_of(dataset).defaults, "workers": 8, **settings}
    return new_build(Settings(dataset=dataset, **values), Owner("run-1"), moto.client)


def at_once(budget: Budget) -> int:
    (need,) = [need for need in budget.needs if need.stage == "at once"]
    assert need.bytes is not None
    return need.bytes


def test_a_bucket_has_no_limit_and_a_worker_needs_a_segment_a_process(
    bucket: MotoServer, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    room.free = 20 * GB
    budget = check_budget(build_in(bucket, "imagenet_fall11", sources=WHOLE))
    assert 8 * GB < at_once(budget) < 9 * GB  # shards of 1 GiB
    lines = [line.split() for line in caplog.text.splitlines()]
    assert any("s3://sets/data" in line and "TB" in line and "download" in line for line in lines)
    assert budget.volume_bytes is None


def test_a_database_needs_twice_its_largest_split(bucket: MotoServer, room: Room) -> None:
    room.free = 200 * GB
    build = build_in(bucket, "ilsvrc2012", formats=("lmdb",), sources={
        name: f"https://mirror.example.org/{name}" for name in (
            "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")
    })  # fmt: skip
    assert at_once(budget_of(build)) > 2 * 147 * GB
    with pytest.raises(NotEnoughSpace, match="too small for this run") as refusal:
        check_budget(build)
    assert "TMPDIR" in str(refusal.value)


def test_shards_joined_of_segments_need_their_parts_beside_them(
    bucket: MotoServer, room: Room
) -> None:
    apart = at_once(budget_of(build_in(bucket, "imagenet_fall11", sources=WHOLE, workers=1)))
    joined = build_in(bucket, "imagenet_fall11", sources=WHOLE, workers=1, shards=8)
    assert at_once(budget_of(joined)) > 10 * apart


def test_an_archive_in_a_bucket_is_known_by_its_size_and_never_copied(
    bucket: MotoServer, room: Room
) -> None:
    bucket.client("s3").put_object(Bucket="sets", Key="a.zip", Body=CONTENT)
    build = build_in(bucket, "tiny_imagenet", expect="any", sources={FACTS.name: "s3://sets/a.zip"})
    lines = told(budget_of(build))
    assert any("download" in line and line.endswith(" 0 B") for line in lines)
    assert preflight_lines(build)[0].startswith("disk budget")
    missing = build_in(bucket, "tiny_imagenet", sources={FACTS.name: "s3://sets/none.zip"})
    assert not check_budget(missing).is_sourced


def test_the_temporary_folder_is_what_is_looked_at(
    bucket: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    disks = budget_of(build_in(bucket, "imagenet_fall11", sources=WHOLE)).disks
    assert disks["scratch"].path == str(tmp_path)
    assert disks["work"].path == "s3://sets/data"
