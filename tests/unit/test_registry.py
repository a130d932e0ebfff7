"""The registry: what is published under which name, written by one run at a time."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.builds import tiny_build

from imagenet_etl import leases, registry
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew, SourceBusy
from imagenet_etl.receipts import Receipt
from imagenet_etl.registry import publish

KEY = "datasets/tiny_imagenet/registry.json"


def receipt(**facts) -> Receipt:
    return Receipt("stage", "", "", (), {"packed": 3}, facts={"path": "/data/v"} | facts)


def verified(version: str = "v1", content: str = "aa") -> Receipt:
    return receipt(version=version, manifest_sha256=content)


BACKUP = receipt(uri="s3://bucket/tiny_imagenet/v1")
SNAPSHOT = receipt(snapshot_id="snap-1")


def read(build) -> dict:
    return json.loads(build.storage.read(KEY))


def test_a_first_version_makes_the_registry(tmp_path):
    build = tiny_build(tmp_path)
    told = publish(build, verified(), None, None)
    assert (told.is_new, told.changed) == (True, True)
    entry = {
        "path": "datasets/tiny_imagenet/v1", "manifest_sha256": "aa", "counts": {"packed": 3},
        "formats": {"recordio": "/data/v/recordio"},
    }  # fmt: skip
    assert told.entry == {"dataset": "tiny_imagenet", "version": "v1"} | entry
    assert read(build) == {
        "schema_version": 1, "dataset": "tiny_imagenet", "latest": "v1", "versions": {"v1": entry},
    }  # fmt: skip


def test_publishing_again_changes_nothing(tmp_path):
    build = tiny_build(tmp_path)
    first = publish(build, verified(), BACKUP, None)
    before = build.storage.stat(KEY)
    again = publish(build, verified(), BACKUP, None)
    assert not again.changed
    assert again.entry == first.entry
    assert build.storage.stat(KEY) == before


def test_a_later_backup_and_snapshot_join_the_entry(tmp_path):
    build = tiny_build(tmp_path)
    publish(build, verified(), None, None)
    told = publish(build, verified(), BACKUP, None)
    assert told.changed
    told = publish(build, verified(), None, SNAPSHOT)
    assert told.entry["s3_uri"] == "s3://bucket/tiny_imagenet/v1"
    assert told.entry["snapshot_id"] == "snap-1"


def test_a_version_is_announced_once(tmp_path):
    first, second = tiny_build(tmp_path, run="first"), tiny_build(tmp_path, run="second")
    publish(first, verified(), None, None)
    assert publish(first, verified(), None, None, announce=True).is_new
    assert publish(first, verified(), None, None, announce=True).is_new, "it may have died since"
    told = publish(second, verified(), BACKUP, None, announce=True)
    assert (told.is_new, told.changed) == (False, True)


def test_other_content_under_a_known_name_is_announced_again(tmp_path):
    first, second = tiny_build(tmp_path, run="first"), tiny_build(tmp_path, run="second")
    publish(first, verified(content="aa"), None, None, announce=True)
    assert publish(second, verified(content="bb"), None, None, announce=True).is_new


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema_version": 1}'])
def test_a_damaged_registry_is_named(tmp_path, content):
    build = tiny_build(tmp_path)
    build.storage.put(KEY, content)
    with pytest.raises(DatasetDamaged, match=r"registry\.json is damaged"):
        publish(build, verified(), None, None)


def test_the_latest_version_is_the_last_new_one(tmp_path):
    build = tiny_build(tmp_path)
    for version in ("v1", "v2"):
        publish(build, verified(version), None, None)
    publish(build, verified("v1"), BACKUP, None)
    assert read(build)["latest"] == "v2"
    assert list(read(build)["versions"]) == ["v1", "v2"]


def test_copies_of_other_content_are_not_taken_for_copies_of_this_one(tmp_path):
    build = tiny_build(tmp_path)
    publish(build, verified(content="aa"), BACKUP, SNAPSHOT)
    told = publish(build, verified(content="bb"), None, None)
    assert (told.is_new, told.changed) == (True, True)
    assert set(told.entry) == {
        "dataset", "version", "path", "formats", "manifest_sha256", "counts",
    }  # fmt: skip
    assert read(build)["versions"]["v1"]["manifest_sha256"] == "bb"


def test_a_newer_registry_is_refused_and_left_alone(tmp_path):
    build = tiny_build(tmp_path)
    build.storage.put(KEY, b'{"schema_version": 2}')
    with pytest.raises(SchemaTooNew, match=r"registry\.json"):
        publish(build, verified(), None, None)
    assert build.storage.read(KEY) == b'{"schema_version": 2}'
    build.storage.delete(KEY)
    publish(build, verified(), None, None)  # the lease was given back


def test_runs_at_once_lose_no_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PAUSE_S", 0.01)

    def work(number: int) -> None:
        build = tiny_build(tmp_path, run=f"run-{number}")
        publish(build, verified(f"v{number}"), None, None)
        build.storage.close_staging()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(8)))
    assert sorted(read(tiny_build(tmp_path))["versions"]) == [f"v{n}" for n in range(8)]


def test_a_busy_registry_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PAUSE_S", 0.01)
    monkeypatch.setattr(registry, "_WAIT_S", 0.05)
    build = tiny_build(tmp_path)
    other = leases.acquire(build.storage, f"{build.work}/registry-lock", leases.Owner("other"))
    with pytest.raises(SourceBusy, match="registry"):
        publish(build, verified(), None, None)
    monkeypatch.setattr(registry, "_WAIT_S", 30.0)
    timer = threading.Timer(0.1, other.release)
    timer.start()
    assert publish(build, verified(), None, None).is_new
    timer.join()


@pytest.mark.parametrize("version", ["registry", "registry-lock", "locks"])
def test_a_version_may_be_called_like_the_registrys_lock(tmp_path, version, monkeypatch):
    monkeypatch.setattr(registry, "_WAIT_S", 0.0)
    build = tiny_build(tmp_path, version=version)
    with build.locked():
        assert publish(build, verified(version), None, None).is_new
