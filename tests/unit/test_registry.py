"""The registry: what is published under which name, written by one run at a time."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.support.builds import tiny_build

from imagenet_etl import leases
from imagenet_etl.datastore import disk
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew, SourceBusy
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.registry import Copies, publish

ARCHIVE = "tiny-imagenet-200.zip"
KEY = "datasets/tiny_imagenet/registry.json"


def receipt(**facts) -> Receipt:
    return Receipt(
        "stage", "", "", (Output("a.rec", 7, ""),), {"packed": 3}, facts={"path": "/data/v"} | facts
    )


def verified(version: str = "v1", content: str = "aa") -> Receipt:
    return receipt(version=version, manifest_sha256=content)


def backed_up(**more) -> Copies:
    return Copies(backup=backup_receipt(), **more)


def backup_receipt(marks: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Receipt:
    return receipt(
        uri="s3://bucket/tiny_imagenet/v1",
        marks=dict.fromkeys(marks, "etag"),
        report={"left_out": dict.fromkeys(left_out, "a folder")},
    )


SNAPSHOT = receipt(snapshot_id="snap-1", region="us-east-1")


def read(build) -> dict:
    return json.loads(build.storage.read(KEY))


def test_a_first_version_makes_the_registry(tmp_path):
    build = tiny_build(tmp_path)
    told = publish(build, first := verified())
    assert (told.is_new, told.changed) == (True, True)
    entry = {
        "path": "datasets/tiny_imagenet/v1", "manifest_sha256": "aa", "counts": {"packed": 3},
        "formats": {"recordio": "recordio"}, "bytes": 7, "published_at": first.finished_at,
    }  # fmt: skip
    named = {"dataset": "tiny_imagenet", "version": "v1"} | entry
    assert told.entry == named | {"formats": {"recordio": "/data/v/recordio"}}
    assert read(build) == {
        "schema_version": 2, "dataset": "tiny_imagenet", "latest": "v1", "versions": {"v1": entry},
    }  # fmt: skip


def test_publishing_again_changes_nothing(tmp_path):
    build = tiny_build(tmp_path)
    first = publish(build, verified(), backed_up())
    before = build.storage.stat(KEY)
    again = publish(build, verified(), backed_up())
    assert not again.changed
    assert again.entry == first.entry
    assert build.storage.stat(KEY) == before


def test_a_later_backup_and_snapshot_join_the_entry(tmp_path):
    build = tiny_build(tmp_path)
    publish(build, verified())
    told = publish(build, verified(), backed_up())
    assert told.changed
    told = publish(build, verified(), Copies(snapshot=SNAPSHOT))
    assert told.entry["s3_uri"] == "s3://bucket/tiny_imagenet/v1"
    assert told.entry["snapshots"] == {"us-east-1": "snap-1"}
    assert told.entry["snapshot_id"] == "snap-1"
    copied = receipt(copies={"eu-west-1": "snap-2"})
    shared = receipt(accounts=["222222222222", "111111111111"])
    told = publish(build, verified(), Copies(None, SNAPSHOT, copied, shared))
    assert told.entry["snapshots"] == {"us-east-1": "snap-1", "eu-west-1": "snap-2"}
    assert read(build)["versions"]["v1"]["shared_with"] == ["111111111111", "222222222222"]
    assert "snapshot_id" not in read(build)["versions"]["v1"]


def test_what_is_backed_up_is_noted(tmp_path):
    (tmp_path / "both").mkdir()
    build = tiny_build(tmp_path / "both", back_up=("archives", "dataset"))
    both = Copies(backup_receipt(marks=(f"archives/{ARCHIVE}.backup.json",)))
    entry = publish(build, verified(), both).entry
    assert (entry["s3_uri"], entry["archives_backed_up"]) == ("s3://bucket/tiny_imagenet/v1", True)
    build = tiny_build(tmp_path, back_up=("archives",))
    entry = publish(build, verified(), both).entry
    assert entry["archives_backed_up"]
    assert "s3_uri" not in entry


def test_archives_that_were_left_out_are_not_backed_up(tmp_path):
    build = tiny_build(tmp_path, back_up=("archives", "dataset"))
    left_out = Copies(backup_receipt(marks=("v1/manifest.json",), left_out=(ARCHIVE,)))
    assert "archives_backed_up" not in publish(build, verified(), left_out).entry


def test_second_backup_hides_no_first(tmp_path):
    build = tiny_build(tmp_path)
    publish(build, verified(), backed_up())
    elsewhere = receipt(uri="s3://other/tiny_imagenet/v1", marks={}, report={"left_out": {}})
    entry = publish(build, verified(), Copies(backup=elsewhere)).entry
    assert entry["s3_uri"] == "s3://other/tiny_imagenet/v1"
    assert entry["other_s3_uris"] == ["s3://bucket/tiny_imagenet/v1"]


def test_new_version_that_is_not_the_latest_is_told(tmp_path, caplog):
    build = tiny_build(tmp_path)
    publish(build, replace(verified("v1"), finished_at=2e9))
    publish(build, verified("v2"))
    assert "v2 is new, but v1 stays the latest" in caplog.text


def test_version_that_was_being_removed_is_announced_anew(tmp_path):
    first, second = tiny_build(tmp_path, run="first"), tiny_build(tmp_path, run="second")
    publish(first, verified(), backed_up(), announce=True)
    disk.update_registry(
        first.storage, "tiny_imagenet", first.owner,
        lambda known: known.with_entry("v1", known.versions["v1"] | {"removing": True}),
    )  # fmt: skip
    told = publish(second, verified(), announce=True)
    assert told.is_new
    assert not {"s3_uri", "removing"} & set(told.entry)


def test_a_version_is_announced_once(tmp_path):
    first, second = tiny_build(tmp_path, run="first"), tiny_build(tmp_path, run="second")
    publish(first, verified())
    assert publish(first, verified(), announce=True).is_new
    assert publish(first, verified(), announce=True).is_new, "it may have died since"
    told = publish(second, verified(), backed_up(), announce=True)
    assert (told.is_new, told.changed) == (False, True)


def test_other_content_under_a_known_name_is_announced_again(tmp_path):
    first, second = tiny_build(tmp_path, run="first"), tiny_build(tmp_path, run="second")
    publish(first, verified(content="aa"), announce=True)
    assert publish(second, verified(content="bb"), announce=True).is_new


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema_version": 1}'])
def test_a_damaged_registry_is_named(tmp_path, content):
    build = tiny_build(tmp_path)
    build.storage.put(KEY, content)
    with pytest.raises(DatasetDamaged, match=r"registry\.json is damaged"):
        publish(build, verified())


def test_the_latest_version_is_the_last_new_one(tmp_path):
    build = tiny_build(tmp_path)
    for version in ("v1", "v2"):
        publish(build, verified(version))
    publish(build, verified("v1"), backed_up())
    assert read(build)["latest"] == "v2"
    assert list(read(build)["versions"]) == ["v1", "v2"]


def test_copies_of_other_content_are_not_taken_for_copies_of_this_one(tmp_path):
    build = tiny_build(tmp_path)
    publish(build, verified(content="aa"), backed_up(snapshot=SNAPSHOT))
    told = publish(build, verified(content="bb"))
    assert (told.is_new, told.changed) == (True, True)
    assert set(told.entry) == {
        "dataset", "version", "path", "formats", "manifest_sha256", "counts", "bytes",
        "published_at",
    }  # fmt: skip
    assert read(build)["versions"]["v1"]["manifest_sha256"] == "bb"


def test_a_newer_registry_is_refused_and_left_alone(tmp_path):
    build = tiny_build(tmp_path)
    build.storage.put(KEY, b'{"schema_version": 3}')
    with pytest.raises(SchemaTooNew, match=r"registry\.json"):
        publish(build, verified())
    assert build.storage.read(KEY) == b'{"schema_version": 3}'
    build.storage.delete(KEY)
    publish(build, verified())  # the lease was given back


def test_registry_of_the_first_schema_is_read_and_converted(tmp_path):
    build = tiny_build(tmp_path)
    old = {"path": "datasets/tiny_imagenet/v", "manifest_sha256": "xx", "counts": {"packed": 3},
           "formats": {"recordio": "/data/v/recordio"}, "snapshot_id": "snap-1",
           "announced_by": "long ago"}  # fmt: skip
    other = {key: value for key, value in old.items() if key != "snapshot_id"}
    versions = {"v2": old, "v1": other | {"manifest_sha256": "yy"}}
    fields = {"schema_version": 1, "dataset": "tiny_imagenet", "latest": "v2", "versions": versions}
    build.storage.put(KEY, json.dumps(fields).encode())
    first = disk.read_registry(build.storage, "tiny_imagenet")
    assert (first.latest, first.newest_first) == ("v2", ["v2", "v1"])
    told = publish(build, verified("v2", "xx"), Copies(snapshot=SNAPSHOT), announce=True)
    assert not told.is_new
    found = read(build)
    assert (found["schema_version"], found["latest"]) == (2, "v2")
    assert found["versions"]["v2"]["snapshots"] == {"us-east-1": "snap-1"}
    assert found["versions"]["v2"]["formats"] == {"recordio": "recordio"}


def test_runs_at_once_lose_no_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_PAUSE_S", 0.01)

    def work(number: int) -> None:
        build = tiny_build(tmp_path, run=f"run-{number}")
        publish(build, verified(f"v{number}"))
        build.storage.close_staging()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(8)))
    assert sorted(read(tiny_build(tmp_path))["versions"]) == [f"v{n}" for n in range(8)]


def test_a_busy_registry_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_PAUSE_S", 0.01)
    monkeypatch.setattr(disk, "_WAIT_S", 0.05)
    build = tiny_build(tmp_path)
    other = leases.acquire(build.storage, f"{build.work}/registry-lock", leases.Owner("other"))
    with pytest.raises(SourceBusy, match="registry"):
        publish(build, verified())
    monkeypatch.setattr(disk, "_WAIT_S", 30.0)
    timer = threading.Timer(0.1, other.release)
    timer.start()
    assert publish(build, verified()).is_new
    timer.join()


@pytest.mark.parametrize("version", ["registry", "registry-lock", "locks"])
def test_a_version_may_be_called_like_the_registrys_lock(tmp_path, version, monkeypatch):
    monkeypatch.setattr(disk, "_WAIT_S", 0.0)
    build = tiny_build(tmp_path, version=version)
    with build.locked():
        assert publish(build, verified(version)).is_new
