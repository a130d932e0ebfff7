"""A verify that dies after the publication is done by its next try, without another pack."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.archives import tiny_zip
from tests.support.moto_server import MotoServer

from imagenet_etl import verify
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.leases import Owner
from imagenet_etl.mapped import groups_to_pack, run_pack_group
from imagenet_etl.pipeline import run_stage
from imagenet_etl.selection import parse_group
from imagenet_etl.storage import Storage

BEFORE = ("download", "untar", "restructure_val", "filter_classes", "plan_shards", "pack")
FORMATS = ("recordio", "imagefolder")


class Died(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


@pytest.fixture(params=["folder", "bucket"])
def build(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    moto: MotoServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[int], Build]:
    (tmp_path / "site").mkdir()
    archive = tiny_zip(tmp_path / "site")
    data, source = str(tmp_path / "data"), str(archive)
    if request.param == "bucket":
        for name, value in moto.environment().items():
            monkeypatch.setenv(name, value)  # for the packing processes
        bucket = f"b-{uuid.uuid4().hex}"
        data, source = f"{moto.bucket(bucket)}/data", f"s3://{bucket}/{archive.name}"
        moto.client("s3").upload_file(str(archive), bucket, archive.name)
    settings = Settings(
        dataset="tiny_imagenet", data_dir=data, expect="any", workers=1, version="v1",
        formats=FORMATS, sources={archive.name: source},
    )  # fmt: skip

    def of(attempt: int) -> Build:
        return new_build(settings, Owner("run-1", "verify", attempt), moto.client)

    return of


def content(storage: Storage, prefix: str) -> dict[str, bytes | None]:
    return {key: storage.read(key) for key, _ in storage.list(prefix)}


def die_in_verify(build: Build, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise Died

    for stage in BEFORE:
        run_stage(build, stage)
    with monkeypatch.context() as patched:
        patched.setattr(verify, name, die)
        with pytest.raises(Died):
            run_stage(build, "verify")
    build.storage.close_staging()


@pytest.mark.parametrize("name", ["_clean_up", "_stamped"])
def test_20_a_verify_that_died_after_the_publication_is_done_by_its_next_try(
    name: str, build: Callable[[int], Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(1)
    die_in_verify(first, name, monkeypatch)
    published = content(first.storage, "datasets")
    assert "datasets/tiny_imagenet/v1/manifest.json" in published
    if first.storage.on_disk:  # as by a copy from elsewhere
        for key in published:
            os.utime(Path(first.storage.url, key), (0, 0))
    retry = build(2)
    receipt = run_stage(retry, "verify").receipt
    run_stage(retry, "report")
    assert content(retry.storage, "datasets") == published
    (folder,) = {key.rsplit("/", 1)[0] for key in content(retry.storage, "work/tiny_imagenet/pack")}
    assert [key for key, _ in retry.storage.list(folder)] == [f"{folder}/receipt.json"]
    assert run_stage(build(3), "pack").reused
    assert run_stage(build(3), "verify").receipt == receipt
    retry.storage.close_staging()


@pytest.mark.parametrize("mapped", [False, True])
def test_20_a_run_that_begins_with_the_packing_again_adopts_the_version(
    mapped: bool, build: Callable[[int], Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, later = build(1), build(2)
    die_in_verify(first, "_clean_up", monkeypatch)
    published = content(first.storage, "datasets")
    if mapped:
        for group in groups_to_pack(later):
            assert not any(run_pack_group(later, parse_group(group)).values())
    for stage in (*BEFORE, "verify"):
        run_stage(later, stage)
    assert groups_to_pack(later) == []
    assert content(later.storage, "datasets") == published
    later.storage.close_staging()
