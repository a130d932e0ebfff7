"""Prune beside runs and backups that begin at the worst moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.builds import tiny_build
from tests.support.moto_server import MotoServer
from tests.unit.datastore.helpers import NAME, URI, Site, manifest_of

from imagenet_etl import leases, pruning
from imagenet_etl.aws.s3_catalog import check_not_removing, read_catalog, update_catalog
from imagenet_etl.claims import check_unclaimed
from imagenet_etl.datastore import removal
from imagenet_etl.datastore.catalog import Catalog
from imagenet_etl.errors import AlreadyRunning, CloudError, CloudUnavailable
from imagenet_etl.pruning import prune_versions
from imagenet_etl.receipts import Receipt
from imagenet_etl.registry import Copies, publish

OLD = "0a1b2c3d"


@pytest.fixture
def site(tmp_path: Path, moto: MotoServer) -> Iterator[Site]:
    moto.bucket("backups")
    site = Site(tmp_path / "data", moto, URI)
    site.in_bucket(OLD, at=1)
    site.in_bucket("new", at=2)
    yield site
    site.storage.close_staging()


def known(site: Site):
    return read_catalog(site.client("s3"), site.place, NAME).versions.get(OLD)


def test_run_of_an_unnamed_version_that_has_just_begun_keeps_it(site, monkeypatch):
    look, looks = pruning._holder, []

    def begins_after_the_first_look(store, version):
        looks.append(look(store, version))
        if len(looks) == 1:
            key = f"work/{NAME}/locks/settings-0123456789ab"
            leases.acquire(site.storage, key, leases.Owner("another"), shared=True)
        return looks[-1]

    monkeypatch.setattr(pruning, "_holder", begins_after_the_first_look)
    before = site.objects()
    report = prune_versions(site.store, 1, really=True)
    assert report.kept[OLD] == "run 'another' is at work on it"
    assert (site.objects(), site.versions()) == (before, [OLD, "new"])
    assert not known(site).get("removing")


def test_run_of_an_unnamed_version_stops_while_it_is_being_removed(site, monkeypatch):
    build = tiny_build(Path(site.storage.url))
    seen = []

    def removing(store, version, entry):
        with build.locked() as locked, pytest.raises(AlreadyRunning, match="held by run 'cli-1'"):
            check_unclaimed(locked, version)
        seen.append(version)
        return removal.remove_folder(store, version, entry)

    monkeypatch.setattr(pruning, "remove_folder", removing)
    prune_versions(site.store, 1, really=True)
    assert seen == [OLD]
    with build.locked() as locked:
        check_unclaimed(locked, OLD)
    named = tiny_build(Path(site.storage.url), version=OLD)
    with named.locked() as locked:
        check_unclaimed(locked, OLD)


def test_entry_that_changes_before_the_removal_begins_stays(site, monkeypatch):
    acquire = leases.acquire

    def publishes_first(storage, key, owner, **more):
        if key.endswith(OLD):
            site.enter(OLD, at=3)
        return acquire(storage, key, owner, **more)

    monkeypatch.setattr(pruning.leases, "acquire", publishes_first)
    snapshots = {"us-east-1": "snap-1"}
    monkeypatch.setattr(
        site, "enter", lambda version, at, enter=site.enter: enter(version, at, snapshots=snapshots)
    )
    report = prune_versions(site.store, 1, really=True)
    assert report.kept[OLD] == "its entry has just changed"
    assert site.versions() == [OLD, "new"]


def unmark(site: Site) -> None:
    def change(catalog: Catalog) -> Catalog:
        entry = {k: v for k, v in catalog.versions[OLD].items() if k != "removing"}
        return Catalog(NAME, {**catalog.versions, OLD: entry})

    update_catalog(site.client("s3"), site.place, NAME, change)


@pytest.mark.parametrize("again", ["manifest", "entry"])
def test_backup_that_comes_back_between_two_batches_stops_the_removal(site, monkeypatch, again):
    monkeypatch.setattr(removal, "_BATCH", 1)
    site.put_object(f"x/{NAME}/{OLD}/recordio/train/b.rec")
    objects_of = removal.objects_of

    def interrupted(*args):
        for number, item in enumerate(objects_of(*args)):
            if number == 1 and again == "manifest":
                site.put_object(f"x/{NAME}/{OLD}/manifest.json", manifest_of(OLD))
            elif number == 1:
                unmark(site)
            yield item

    monkeypatch.setattr(removal, "objects_of", interrupted)
    with pytest.raises(CloudError, match="backed up again while it was being removed"):
        prune_versions(site.store, 1, really=True)
    assert f"x/{NAME}/{OLD}/recordio/train/b.rec" in site.objects()


def test_backup_refuses_a_version_that_is_being_removed(site, monkeypatch):
    client = site.client("s3")
    was = check_not_removing(client, site.place, OLD)
    assert was == known(site)
    monkeypatch.setattr(pruning, "remove_folder", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prune_versions(site.store, 1, really=True)
    with pytest.raises(CloudUnavailable, match="being removed by prune"):
        check_not_removing(client, site.place, OLD)
    monkeypatch.undo()
    prune_versions(site.store, 1, really=True)
    assert check_not_removing(client, site.place, OLD) is None
    with pytest.raises(CloudUnavailable, match="was removed meanwhile"):
        check_not_removing(client, site.place, OLD, was)


def test_publisher_elsewhere_does_not_enter_what_is_being_removed(site, tmp_path, moto):
    marked = known(site) | {"removing": True}
    update_catalog(
        site.client("s3"), site.place, NAME,
        lambda catalog: Catalog(NAME, {**catalog.versions, OLD: marked}),
    )  # fmt: skip
    build = replace(tiny_build(tmp_path / "other", s3_uri=URI), aws=moto.client)
    facts = {"path": "/data/v", "version": OLD, "manifest_sha256": marked["manifest_sha256"]}
    verified = Receipt("verify", "", "", (), {"packed": 3}, facts=facts)
    facts = {"uri": f"{URI}/{NAME}/{OLD}", "marks": {}, "report": {"left_out": {}}}
    backup = Receipt("back_up_to_s3", "", "", (), {}, facts=facts)
    with pytest.raises(CloudUnavailable, match="being removed by prune"):
        publish(build, verified, Copies(backup=backup))
    assert known(site) == marked
