"""Nothing but a bucket: archives read where they lie, workers with empty disks, equal records."""

import json
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.support.bucket_workers import STAGES, Worker, ended, image_bytes, upload
from tests.support.counting_proxy import CountingProxy, counting_proxy
from tests.support.ilsvrc import build_sample, ilsvrc_build
from tests.support.moto_server import MotoServer
from tests.support.rclone_server import rclone_server

from imagenet_etl.pipeline import run_stage
from imagenet_etl.storage.opening import open_storage
from imagenet_etl.verify import verify_version

FORMATS = {
    "moto": ("recordio", "lmdb", "webdataset", "imagefolder"),
    "rclone": ("recordio", "webdataset"),
}
SETTINGS = {"shards": 3, "val_shards": 2, "expect": "any", "version": "v1", "workers": 2}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "official"
    build_sample(folder)
    return folder


@pytest.fixture(params=["moto", "rclone"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wire(kind: str, moto: MotoServer) -> Iterator[CountingProxy]:
    if kind == "moto":
        with counting_proxy(moto) as proxy:
            yield proxy
        return
    with rclone_server() as server, counting_proxy(server) as proxy:
        yield proxy


@pytest.fixture
def shared(kind: str, archives: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of the version as a run over a shared folder makes them."""
    sources = {path.name: str(path) for path in archives.iterdir()}
    build = ilsvrc_build(tmp_path / "data", sources, formats=FORMATS[kind], **SETTINGS)
    for name in build.facts.stages[:-1]:
        run_stage(build, name)
    return files_below(tmp_path / "data/datasets/ilsvrc2012/v1")


def test_two_workers_with_empty_disks_make_what_a_shared_folder_gets(
    kind: str, wire: CountingProxy, archives: Path, shared: dict[str, bytes], tmp_path: Path
) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    sources = upload(wire, archives, bucket)
    settings: dict[str, Any] = SETTINGS | {
        "dataset": "ilsvrc2012", "data_dir": f"s3://{bucket}/data", "sources": sources,
        "formats": FORMATS[kind],
    }  # fmt: skip
    one, two = (Worker(tmp_path / name, wire, settings) for name in ("one", "two"))
    one.do(*STAGES)
    wire.counts = type(wire.counts)()
    for process in [one.start("pack 1/2"), two.start("pack 2/2")]:
        ended(process)
    gets, read = wire.counts.of("GET", "_img_")
    entry = json.loads(two.do("pack", "verify", "report", "publish"))
    assert entry["formats"]["recordio"] == f"s3://{bucket}/data/datasets/ilsvrc2012/v1/recordio"

    made = objects(wire, bucket, "data/datasets/ilsvrc2012/v1/")
    assert made == shared
    place = entry["formats"]["recordio"].removesuffix("/recordio")
    version = open_storage(place, partial(wire.client, "s3"))
    assert verify_version(version)["files"] == len(shared) - 1  # but the manifest
    version.close_staging()
    assert (one.left_behind(), two.left_behind()) == ([], [])
    members = image_bytes(archives)
    print(f"{kind}: {gets} GETs and {read:,} bytes for {members:,} bytes of members")
    assert members < read <= 1.1 * members


def objects(server: MotoServer, bucket: str, prefix: str) -> dict[str, bytes]:
    client = server.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        item["Key"].removeprefix(prefix): client.get_object(Bucket=bucket, Key=item["Key"])[
            "Body"
        ].read()
        for page in pages
        for item in page["Contents"]
    }
