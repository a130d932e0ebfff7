"""A packing process that uploads is not silent, however long S3 takes to answer."""

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer

from imagenet_etl import leases, pack_worker
from imagenet_etl.index import PLAN
from imagenet_etl.segments import PackJob
from imagenet_etl.selection import Segment
from imagenet_etl.storage.s3 import S3Storage
from imagenet_etl.tables import write_batches


def test_a_long_upload_gives_signs_of_life_and_ends_with_them(
    moto: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pack_worker, "_SIGN_EVERY_S", 0.01)
    url = moto.bucket("data")
    storage = S3Storage(moto.client("s3"), url)
    write_batches(tmp_path / "plan", PLAN, [PLAN.empty_table()])
    storage.publish("plan.parquet", tmp_path / "plan")
    owner = leases.Owner("run")
    lease = leases.acquire(storage, "lease", owner)
    (tmp_path / "workers").mkdir()
    staging = str(tmp_path / "workers")
    packer = pack_worker.SegmentPacker(PackJob(url, "pack", "plan.parquet", {}, {}, 1, 1, staging))
    told: list[dict[str, Any]] = []
    heard, waits = threading.Event(), []

    def tell(what: dict[str, Any]) -> None:
        told.append(what)
        heard.set()

    def slowly(reply: bytes) -> bytes:
        heard.clear()
        waits.append(heard.wait(5))
        return reply

    with fault_proxy(moto.url) as proxy:
        for name, value in (moto.environment() | proxy.environment()).items():
            monkeypatch.setenv(name, value)
        proxy.rewrite("PutObject", slowly)
        segment = asdict(Segment(0, "train", 0, 0, 1, 0, 0, 0))
        job = {"segment": segment, "lease": "lease", "fence": lease.fence, "owner": asdict(owner)}
        assert packer.pack(job | {"aws": {}}, tell)["counts"]["packed"] == 0
    count = len(told)
    assert waits == [True, True]  # the table of records and the segment's receipt
    time.sleep(0.05)
    assert told == [{"images": 0, "bytes": 0}] * count
