"""Publishers that meet at one catalog, lose replies or die between the bucket and the disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.builds import tiny_build
from tests.support.fault_proxy import fault_proxy
from tests.support.moto_server import MotoServer
from tests.unit.datastore.helpers import NAME, URI, entry

from imagenet_etl import registry
from imagenet_etl.aws.s3_catalog import read_catalog, update_catalog
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.datastore.disk import read_registry
from imagenet_etl.receipts import Receipt
from imagenet_etl.registry import Copies, publish

PLACE = backup_place(URI, NAME)
PUBLISHERS = 8


def enter(client, version: str) -> None:
    made = entry(content=version, version=version)
    update_catalog(client, PLACE, NAME, lambda known: known.with_entry(version, made))


def catalog(moto: MotoServer):
    return read_catalog(moto.client("s3"), PLACE, NAME)


def test_publishers_at_once_lose_no_entry(moto: MotoServer) -> None:
    moto.bucket("backups")
    names = [f"v{number}" for number in range(PUBLISHERS)]
    clients = [moto.client("s3") for _ in names]
    with ThreadPoolExecutor(PUBLISHERS) as executor:
        list(executor.map(enter, clients, names))
    assert sorted(catalog(moto).versions) == names


@pytest.mark.parametrize("first", [True, False], ids=["create", "replace"])
def test_write_whose_reply_is_lost_is_found_done(moto: MotoServer, first: bool) -> None:
    moto.bucket("backups")
    if not first:
        enter(moto.client("s3"), "v0")
    with fault_proxy(moto.url) as proxy:
        proxy.drop_reply("PutObject")
        enter(proxy.client("s3"), "v1")
    assert sorted(catalog(moto).versions) == (["v1"] if first else ["v0", "v1"])


def test_busy_bucket_is_retried(moto: MotoServer) -> None:
    moto.bucket("backups")
    with fault_proxy(moto.url) as proxy:
        proxy.answer("PutObject", status=503, code="SlowDown", times=2)
        proxy.answer("PutObject", status=409, code="ConditionalRequestConflict", times=2)
        enter(proxy.client("s3"), "v1")
    assert list(catalog(moto).versions) == ["v1"]


def receipts() -> tuple[Receipt, Copies]:
    facts = {"path": "/data/v", "version": "v1", "manifest_sha256": "aa"}
    verified = Receipt("verify", "", "", (), {"packed": 3}, facts=facts, finished_at=5.0)
    facts = {"uri": f"{URI}/{NAME}/v1", "marks": {}, "report": {"left_out": {}}}
    backup = Receipt("back_up_to_s3", "", "", (), {}, facts=facts)
    return verified, Copies(backup=backup)


def test_crash_between_bucket_and_disk_is_healed_by_the_next_run(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.bucket("backups")
    build = replace(tiny_build(tmp_path, s3_uri=URI), aws=moto.client)
    verified, copies = receipts()
    with monkeypatch.context() as patched:
        patched.setattr(registry, "update_registry", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(build, verified, copies, announce=True)
    assert read_registry(build.storage, NAME).versions == {}
    again = replace(build, owner=replace(build.owner, run="next"))
    assert publish(again, verified, copies, announce=True).is_new
    known = read_registry(build.storage, NAME).versions["v1"]
    assert catalog(moto).versions["v1"] == {k: v for k, v in known.items() if k != "announced_by"}


def test_unreachable_bucket_announces_nothing(moto: MotoServer, tmp_path: Path) -> None:
    build = replace(tiny_build(tmp_path, s3_uri=URI), aws=moto.client)
    with pytest.raises(Exception, match="does not exist"):
        publish(build, *receipts(), announce=True)
    assert read_registry(build.storage, NAME).versions == {}


def test_what_others_know_of_the_version_comes_to_this_disk(
    moto: MotoServer, tmp_path: Path
) -> None:
    moto.bucket("backups")
    one, two = (
        replace(tiny_build(tmp_path / name, s3_uri=URI), aws=moto.client) for name in ("1", "2")
    )
    verified, copies = receipts()
    facts = {"snapshot_id": "snap-1", "region": "eu-west-1"}
    snapshot = Receipt("snapshot_ebs", "", "", (), {}, facts=facts)
    publish(one, verified, replace(copies, snapshot=snapshot))
    publish(two, replace(verified, finished_at=9.0), copies)
    known = read_registry(two.storage, NAME).versions["v1"]
    assert known["snapshots"] == {"eu-west-1": "snap-1"}
    assert known["published_at"] == 5.0
    with fault_proxy(moto.url) as proxy:
        publish(replace(two, aws=proxy.client), verified, copies)
        assert proxy.calls == ["GetObject"], "nothing new writes nothing"
