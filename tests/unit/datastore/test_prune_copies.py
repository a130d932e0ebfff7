"""Removing every copy of an old version, and what stands in the way of it."""

from __future__ import annotations

import pytest
from tests.support.fault_proxy import fault_proxy
from tests.unit.datastore.helpers import NAME, URI, Site
from tests.unit.datastore.test_where import command

from imagenet_etl.aws.s3_catalog import read_catalog
from imagenet_etl.datastore import removal
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import CloudError
from imagenet_etl.pruning import prune_versions

FOLDER = f"datasets/{NAME}"


def prune(site: Site):
    return prune_versions(site.store, 1, really=True)


def test_every_copy_goes(cloud):
    snapshots = {region: cloud.snapshot("old", region) for region in ("us-east-1", "eu-west-1")}
    stays = cloud.snapshot("new")
    volume = cloud.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    not_ours = cloud.client("ec2").create_snapshot(VolumeId=volume)["SnapshotId"]
    before = cloud.snapshots() - {snapshots["us-east-1"]}
    cloud.in_bucket("old", at=1, snapshots=snapshots)
    cloud.in_bucket("new", at=2, snapshots={"us-east-1": stays})
    cloud.put_object(f"x/{NAME}/old-er/manifest.json")
    cloud.put_object(f"x/{NAME}/archives/a.zip")
    report = prune(cloud)
    assert {copy.kind for copy in report.copies} == {"folder", "backup", "snapshot"}
    assert cloud.objects() == [
        f"x/{NAME}/archives/a.zip",
        f"x/{NAME}/catalog.json",
        f"x/{NAME}/new/manifest.json",
        f"x/{NAME}/new/recordio/train/a.rec",
        f"x/{NAME}/old-er/manifest.json",
    ]
    assert cloud.snapshots() == before >= {stays, not_ours}
    assert snapshots["eu-west-1"] not in cloud.snapshots("eu-west-1")
    assert list(read_catalog(cloud.client("s3"), cloud.place, NAME).versions) == ["new"]
    assert list(cloud.registered().versions) == cloud.versions() == ["new"]


def test_what_would_go_is_told_with_its_price(cloud):
    cloud.in_bucket("old", at=1, snapshots={"us-east-1": cloud.snapshot("old")}, bytes=10**10)
    cloud.in_bucket("new", at=2)
    before = cloud.objects(), cloud.snapshots()
    report = prune_versions(cloud.store, 1)
    assert (cloud.objects(), cloud.snapshots()) == before
    text = "\n".join(report.lines())
    assert "would remove old: snapshot snap-" in text
    assert ", about 10.0 GB, 0.50 USD a month" in text, "archives may be in it, or less of it go"
    assert "which saves about 0.50 USD a month" in text
    assert f"would remove old: backup {URI}/{NAME}/old, 0.0 MB" in text


def test_commit_mark_goes_first_and_the_rest_in_batches(cloud, monkeypatch):
    monkeypatch.setattr(removal, "_BATCH", 2)
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    for number in range(4):
        cloud.put_object(f"x/{NAME}/old/lmdb/{number}")
    with fault_proxy(cloud.moto.url) as proxy:
        store = Datastore(NAME, cloud.storage, cloud.store.owner, proxy.client, URI)
        prune_versions(store, 1, really=True)
        deleted = [name for name in proxy.calls if name.startswith("Delete")]
    assert deleted == ["DeleteObject"] + ["DeleteObjects"] * 3


def test_objects_that_cannot_be_deleted_are_an_error_and_the_entry_stays(cloud):
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    refused = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    with fault_proxy(cloud.moto.url) as proxy:
        proxy.rewrite("DeleteObjects", lambda _: refused)
        store = Datastore(NAME, cloud.storage, cloud.store.owner, proxy.client, URI)
        with pytest.raises(CloudError, match="could not be deleted: found AccessDenied for k"):
            prune_versions(store, 1, really=True)
    assert cloud.registered().versions["old"]["removing"]


def test_crash_after_the_backup_lost_its_mark_is_finished(cloud):
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    with fault_proxy(cloud.moto.url) as proxy:
        proxy.answer("DeleteObjects", status=503, code="SlowDown", times=99)
        client = lambda name, _region="": proxy.client(name, retries={"total_max_attempts": 1})  # noqa: E731
        store = Datastore(NAME, cloud.storage, cloud.store.owner, client, URI)
        with pytest.raises(Exception, match="SlowDown"):
            prune_versions(store, 1, really=True)
    assert f"x/{NAME}/old/manifest.json" not in cloud.objects()
    assert read_catalog(cloud.client("s3"), cloud.place, NAME).versions["old"]["removing"]
    prune(cloud)
    assert not [key for key in cloud.objects() if "/old/" in key]
    assert list(read_catalog(cloud.client("s3"), cloud.place, NAME).versions) == ["new"]


def test_snapshot_in_use_stays_and_the_next_run_tries_again(cloud):
    snapshots = {region: cloud.snapshot("old", region) for region in ("us-east-1", "eu-west-1")}
    cloud.in_bucket("old", at=1, snapshots=snapshots)
    cloud.in_bucket("new", at=2)
    with fault_proxy(cloud.moto.url) as proxy:
        proxy.answer("DeleteSnapshot", status=400, code="InvalidSnapshot.InUse", times=1)
        client = lambda name, region="us-east-1": proxy.client(name, region_name=region)  # noqa: E731
        store = Datastore(NAME, cloud.storage, cloud.store.owner, client, URI)
        report = prune_versions(store, 1, really=True)
    assert "is in use and stays" in str(report.troubles[0])
    assert report.versions == ()
    assert {copy.name for copy in report.copies} == {
        f"{cloud.storage.url}/{FOLDER}/old",
        f"{URI}/{NAME}/old",
        snapshots["eu-west-1"],
    }
    assert report.usd_a_month == sum(copy.usd_a_month for copy in report.copies)
    lines = list(report.lines())
    told = [line for line in lines if snapshots["us-east-1"] in line]
    assert [line.partition(":")[0] for line in told] == ["left"]
    assert "keeps old: what is left of it is in use; the next prune tries again" in lines
    assert lines[-1].startswith("removed 0 versions and copies of 1 more, ")
    assert snapshots["us-east-1"] in cloud.snapshots()
    assert snapshots["eu-west-1"] not in cloud.snapshots("eu-west-1")
    assert cloud.registered().versions["old"]["removing"]
    assert prune(cloud).troubles == ()
    assert "old" not in cloud.registered().versions


def test_version_that_only_the_bucket_knows_goes_as_well(cloud):
    cloud.in_bucket("old", at=1)
    cloud.storage.delete(FOLDER)
    cloud.in_bucket("new", at=2)
    assert prune(cloud).versions == ("old",)
    assert not [key for key in cloud.objects() if "/old/" in key]


def test_backup_elsewhere_than_the_version_says_is_not_touched(cloud):
    cloud.in_bucket("new", at=2)
    cloud.on_disk("old", at=1, s3_uri="s3://backups/x")
    with pytest.raises(CloudError, match="is not where tiny_imagenet@old is backed up"):
        prune(cloud)
    assert f"x/{NAME}/new/manifest.json" in cloud.objects()
    assert cloud.versions() == ["new", "old"]


def test_command_tells_first_and_removes_when_told_to(cloud, capsys, monkeypatch):
    for name, value in cloud.moto.environment().items():
        monkeypatch.setenv(name, value)
    cloud.in_bucket("old", at=1)
    cloud.in_bucket("new", at=2)
    argv = ("prune", NAME, "--data-dir", cloud.storage.url, "--keep-versions", 1, "--s3-uri", URI)
    command(*argv)
    assert "would remove 1 versions" in capsys.readouterr().out
    assert cloud.versions() == ["new", "old"]
    command(*argv, "--delete")
    assert "removed 1 versions" in capsys.readouterr().out
    assert cloud.versions() == ["new"]
