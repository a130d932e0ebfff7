"""Prune touches a version's own content alone, whatever else bears the version's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.airflow_runs import files_below
from tests.unit.datastore.helpers import NAME, URI, Site, digest_of, entry, manifest_of

from imagenet_etl import leases
from imagenet_etl.aws.s3_catalog import read_catalog, update_catalog
from imagenet_etl.aws.s3_layout import backup_place
from imagenet_etl.datastore import leftovers
from imagenet_etl.datastore.catalog import Catalog
from imagenet_etl.pruning import prune_versions

FOLDER = f"datasets/{NAME}"
OLD_URI = f"{URI}/{NAME}/old"


def in_catalog(site: Site, version: str, at: float, content: str) -> None:
    made = entry(digest_of(content), at, version, s3_uri=f"{URI}/{NAME}/{version}")
    update_catalog(
        site.client("s3"), site.place, NAME, lambda known: known.with_entry(version, made)
    )


def rebuilt_elsewhere(site: Site) -> list[str]:
    """Make ``old`` on this disk, whose name other content bears in the bucket; return its keys."""
    site.on_disk("old", at=1, s3_uri=OLD_URI)
    site.on_disk("new", at=2)
    for name, body in (("a.rec", b"x"), ("manifest.json", manifest_of("rebuilt"))):
        site.put_object(f"x/{NAME}/old/{name}", body)
    in_catalog(site, "old", at=3, content="rebuilt")
    return site.objects()


@pytest.mark.parametrize("s3_uri", [URI, ""])
def test_backup_that_was_rebuilt_elsewhere_stays(cloud, s3_uri):
    before = rebuilt_elsewhere(cloud)
    report = prune_versions(replace(cloud.store, s3_uri=s3_uri), 1, really=True)
    assert report.versions == ("old",)
    assert cloud.versions() == list(cloud.registered().versions) == ["new"]
    assert cloud.objects() == before
    known = read_catalog(cloud.client("s3"), cloud.place, NAME).versions["old"]
    assert (known["manifest_sha256"], "removing" in known) == (digest_of("rebuilt"), False)
    assert f"note: old: {OLD_URI} is not" in "\n".join(report.lines()) or s3_uri
    assert OLD_URI in report.notes[0]


def test_dry_run_counts_no_backup_of_other_content(cloud):
    rebuilt_elsewhere(cloud)
    report = prune_versions(cloud.store, 1)
    assert {copy.kind for copy in report.copies} == {"folder"}


def test_backup_of_other_content_is_no_whole_copy(cloud):
    rebuilt_elsewhere(cloud)
    cloud.storage.delete(f"{FOLDER}/new")
    assert prune_versions(cloud.store, 1, really=True).versions == ()


@pytest.mark.parametrize("content", ["old", "rebuilt"])
def test_removal_that_died_in_the_bucket_is_finished_for_what_is_here_again(cloud, content):
    cloud.on_disk("old", at=3)
    marked = entry(digest_of(content), at=1, s3_uri=OLD_URI, removing=True)
    update_catalog(
        cloud.client("s3"), cloud.place, NAME, lambda known: known.with_entry("old", marked)
    )
    for name in ("a.rec", "manifest.json"):
        cloud.put_object(f"x/{NAME}/old/{name}", manifest_of(content))
    before = cloud.objects()
    assert "would finish the removal" in prune_versions(cloud.store, 1).notes[0]
    assert cloud.objects() == before
    prune_versions(cloud.store, 1, really=True)
    assert cloud.objects() == [f"x/{NAME}/catalog.json"]
    assert cloud.versions() == list(cloud.store.catalog().versions) == ["old"]


@pytest.mark.parametrize("mark", [True, False], ids=["other", "unmarked"])
def test_folder_that_is_not_the_entrys_stays(cloud, mark):
    in_catalog(cloud, "old", at=1, content="old")
    cloud.put_object(f"x/{NAME}/old/manifest.json", manifest_of("old"))
    cloud.in_bucket("new", at=2)
    cloud.storage.put(f"{FOLDER}/old/recordio/train/a.rec", b"verified here, not registered yet")
    if mark:
        cloud.storage.put(f"{FOLDER}/old/manifest.json", manifest_of("other"))
    folder = Path(cloud.storage.url, FOLDER, "old")
    before = files_below(folder)
    report = prune_versions(cloud.store, 1, really=True)
    assert files_below(folder) == before
    assert f"{folder} is not what the entry tells of" in report.notes[0]
    assert [copy.kind for copy in report.copies] == ["backup"]
    assert not [key for key in cloud.objects() if "/old/" in key]


def test_backup_that_the_catalog_does_not_know_goes_under_a_mark(cloud):
    cloud.on_disk("old", at=1, s3_uri=OLD_URI)
    cloud.put_object(f"x/{NAME}/old/manifest.json", manifest_of("old"))
    cloud.on_disk("new", at=2)
    prune_versions(cloud.store, 1, really=True)
    assert cloud.objects() == [f"x/{NAME}/catalog.json"]
    assert read_catalog(cloud.client("s3"), cloud.place, NAME).versions == {}


def test_backup_that_is_just_being_made_stays(cloud):
    cloud.on_disk("old", at=1, s3_uri=OLD_URI)
    cloud.put_object(f"x/{NAME}/old/recordio/train/a.rec")
    cloud.on_disk("new", at=2)
    prune_versions(cloud.store, 1, really=True)
    assert cloud.objects() == [f"x/{NAME}/old/recordio/train/a.rec"]


@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "bucket gone"])
def test_backups_in_other_buckets_go_as_well(cloud, is_gone):
    cloud.in_bucket("old", at=1, other_s3_uris=[f"s3://second/y/{NAME}/old"])
    cloud.in_bucket("new", at=2)
    if not is_gone:
        cloud.moto.bucket("second")
        put = {"Bucket": "second", "Key": f"y/{NAME}/old/manifest.json"}
        cloud.client("s3").put_object(**put, Body=manifest_of("old"))
    report = prune_versions(cloud.store, 1, really=True)
    assert [copy.kind for copy in report.copies].count("backup") == (1 if is_gone else 2)
    assert not [key for key in cloud.objects() if "/old/" in key]
    assert list(cloud.registered().versions) == ["new"]
    if not is_gone:
        keys = [i["Key"] for i in cloud.client("s3").list_objects_v2(Bucket="second")["Contents"]]
        assert keys == [f"y/{NAME}/catalog.json"]


def test_backup_that_never_ended_is_told_and_stays(cloud, monkeypatch):
    cloud.in_bucket("new", at=2)
    cloud.put_object(f"x/{NAME}/begun/a.rec")
    cloud.put_object(f"x/{NAME}/archives/a.zip")
    cloud.put_object(f"x/{NAME}/unregistered/manifest.json")
    assert prune_versions(cloud.store, 1).notes == (), "it may be under way"
    monkeypatch.setattr(leftovers, "_MAY_BE_AT_WORK_S", -60.0)
    (note,) = prune_versions(cloud.store, 1, really=True).notes
    assert f"{URI}/{NAME}/begun has no manifest.json" in note
    assert f"x/{NAME}/begun/a.rec" in cloud.objects()


def test_version_of_a_wrong_clock_pushes_none_out(cloud):
    cloud.on_disk("future", at=4e9)
    cloud.on_disk("new", at=2)
    cloud.on_disk("old", at=1)
    report = prune_versions(cloud.store, 1, really=True)
    assert report.versions == ("old",)
    assert "wrong clock, that said 2096-10-02" in report.kept["future"]


def add_in_bucket(site: Site, version: str, **more: Any) -> None:
    """Enter more of a version in the bucket's catalog, as another machine does; not here."""

    def change(known: Catalog) -> Catalog:
        return Catalog(NAME, {**known.versions, version: known.versions[version] | more})

    update_catalog(site.client("s3"), site.place, NAME, change)


@pytest.mark.parametrize("s3_uri", [URI, ""])
def test_snapshot_that_only_the_buckets_catalog_knows_goes_as_well(cloud, s3_uri):
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    add_in_bucket(cloud, "old", snapshots={"eu-west-1": cloud.snapshot("old", "eu-west-1")})
    store = replace(cloud.store, s3_uri=s3_uri)
    assert "in eu-west-1" in "\n".join(prune_versions(store, 1).lines())
    report = prune_versions(store, 1, really=True)
    assert [copy.region for copy in report.copies if copy.kind == "snapshot"] == ["eu-west-1"]
    assert cloud.snapshots("eu-west-1") == set()
    assert list(read_catalog(cloud.client("s3"), cloud.place, NAME).versions) == ["new"]


def test_copies_that_are_entered_until_the_mark_go_as_well(cloud, monkeypatch):
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    acquire = leases.acquire

    def snapshot_first(storage, key, *args, **more):
        if key.endswith("old"):
            add_in_bucket(cloud, "old", snapshots={"eu-west-1": cloud.snapshot("old", "eu-west-1")})
        return acquire(storage, key, *args, **more)

    monkeypatch.setattr(leases, "acquire", snapshot_first)
    prune_versions(replace(cloud.store, s3_uri=""), 1, really=True)
    assert cloud.snapshots("eu-west-1") == set()
    assert list(cloud.store.catalog().versions) == ["new"]


def test_backups_lead_to_further_ones_that_this_registry_does_not_know(cloud):
    cloud.moto.bucket("second")
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    second = f"s3://second/y/{NAME}/old"
    add_in_bucket(cloud, "old", other_s3_uris=[second])
    snapshots = {"eu-west-1": cloud.snapshot("old", "eu-west-1")}
    there = entry(digest_of("old"), 1, "old", s3_uri=second, snapshots=snapshots)
    place = backup_place("s3://second/y", NAME)
    update_catalog(cloud.client("s3"), place, NAME, lambda known: known.with_entry("old", there))
    put = {"Bucket": "second", "Key": f"y/{NAME}/old/manifest.json"}
    cloud.client("s3").put_object(**put, Body=manifest_of("old"))
    prune_versions(replace(cloud.store, s3_uri=""), 1, really=True)
    assert cloud.snapshots("eu-west-1") == set()
    assert read_catalog(cloud.client("s3"), place, NAME).versions == {}
    keys = [i["Key"] for i in cloud.client("s3").list_objects_v2(Bucket="second")["Contents"]]
    assert keys == [f"y/{NAME}/catalog.json"]


def test_prune_that_died_is_finished_by_a_machine_that_knew_less(cloud):
    """Both have marked it, and the bucket alone knows of a snapshot."""
    cloud.in_bucket("old", at=1, removing=True)
    cloud.in_bucket("new", at=2)
    add_in_bucket(cloud, "old", snapshots={"eu-west-1": cloud.snapshot("old", "eu-west-1")})
    prune_versions(cloud.store, 1, really=True)
    assert cloud.snapshots("eu-west-1") == set()
    assert list(cloud.store.catalog().versions) == ["new"]


def test_snapshot_stays_known_when_the_removal_in_the_bucket_is_finished(cloud):
    cloud.in_bucket("here", at=1)
    there = cloud.snapshot("here", "eu-west-1")
    more = {"eu-west-1": there, "us-west-2": "snap-12345678"}
    add_in_bucket(cloud, "here", snapshots=more, removing=True)
    prune_versions(cloud.store, 1, really=True)
    assert read_catalog(cloud.client("s3"), cloud.place, NAME).versions == {}
    known = cloud.registered().versions["here"]
    assert known["snapshots"] == {"eu-west-1": there}, "and not what is gone"
    assert "removing" not in known
    cloud.in_bucket("new", at=2)
    prune_versions(cloud.store, 1, really=True)
    assert cloud.snapshots("eu-west-1") == set()


def test_version_whose_backup_is_on_its_way_out_pushes_none_out(cloud):
    """Its removal died right after the mark; this prune finishes that, and counts what is left."""
    cloud.on_disk("old", at=1)
    cloud.in_bucket("new", at=2)
    add_in_bucket(cloud, "new", removing=True)
    cloud.storage.delete(f"{FOLDER}/new")
    assert prune_versions(cloud.store, 1, really=True).versions == ()
    assert cloud.versions() == ["old"]
