"""Prune touches a version's own content alone, whatever else bears the version's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.unit.datastore.helpers import NAME, URI, Site, digest_of, entry, manifest_of

from imagenet_etl.aws.s3_catalog import read_catalog, update_catalog
from imagenet_etl.datastore import leftovers
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
