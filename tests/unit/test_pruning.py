"""Keeping the newest versions, and nothing but those."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.unit.datastore.helpers import NAME, Site, class_tree, entry

from imagenet_etl import leases
from imagenet_etl.datastore import removal
from imagenet_etl.datastore.adopt import read_tree
from imagenet_etl.datastore.disk import read_registry, update_registry
from imagenet_etl.datastore.register import register_tree
from imagenet_etl.datastore.where import where
from imagenet_etl.errors import ConfigError
from imagenet_etl.pruning import prune_versions

FOLDER = f"datasets/{NAME}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.storage.close_staging()


def prune(site: Site, keep: int = 1, **more):
    return prune_versions(site.store, keep, really=True, **more)


def test_the_newest_stay_and_the_others_go(site):
    for number in range(4):
        site.on_disk(f"v{number}", at=number)
    report = prune(site, keep=2)
    assert report.versions == ("v1", "v0")
    assert site.versions() == ["v2", "v3"]
    assert list(site.registered().versions) == ["v2", "v3"]
    assert not list(Path(site.storage.url, "work").rglob("*.rec"))
    assert report.kept == {"v3": "it is the latest", "v2": "it is new enough"}


def test_without_really_nothing_changes(site):
    for number in range(3):
        site.on_disk(f"v{number}", at=number)
    before = files_below(Path(site.storage.url))
    report = prune_versions(site.store, 1)
    assert files_below(Path(site.storage.url)) == before
    assert report.versions == ("v1", "v0")
    lines = list(report.lines())
    assert lines[0].startswith("would remove v1: folder ")
    assert lines[-1].startswith("would remove 2 versions, about 4.0 MB")


def test_the_only_whole_version_stays_however_old_it_is(site):
    site.on_disk("old", at=1)
    site.enter("lost", at=2)
    site.enter("lost_too", at=3)
    report = prune(site)
    assert report.versions == ()
    assert site.versions() == ["old"]


def test_versions_of_which_nothing_is_left_are_no_reason_to_keep_fewer(site):
    for version, at in (("v1", 1), ("v2", 2), ("v4", 4)):
        site.on_disk(version, at=at)
    site.enter("v3", at=3)
    assert prune(site, keep=2).versions == ("v1",)
    assert site.versions() == ["v2", "v4"]


def test_own_version_stays(site):
    site.on_disk("mine", at=1)
    site.on_disk("newer", at=2)
    assert prune(site, spare="mine").versions == ()


@pytest.mark.parametrize(
    ("lock", "stays"),
    [
        ("version-old", ["old"]),
        ("version-other", []),
        ("settings-0123456789ab", ["0a1b2c3d"]),
    ],
)
def test_versions_that_a_live_run_holds_stay(site, lock, stays):
    for version, at in (("old", 1), ("0a1b2c3d", 2), ("new", 3)):
        site.on_disk(version, at=at)
    key = f"work/{NAME}/locks/{lock}"
    lease = leases.acquire(site.storage, key, leases.Owner("another"), shared=True)
    report = prune(site)
    assert site.versions() == sorted([*stays, "new"])
    for version in stays:
        assert report.kept[version] == "run 'another' is at work on it"
    lease.release()
    prune(site)
    assert site.versions() == ["new"]


def test_no_run_begins_to_work_on_what_is_being_removed(site, monkeypatch):
    site.on_disk("old", at=1)
    site.on_disk("new", at=2)

    def removing(store, version, entry):
        with pytest.raises(leases.AlreadyRunning):
            key = f"work/{NAME}/locks/version-old"
            leases.acquire(site.storage, key, leases.Owner("another"), shared=True)
        return removal.remove_folder(store, version, entry)

    monkeypatch.setattr("imagenet_etl.pruning.remove_folder", removing)
    assert prune(site).versions == ("old",)


def test_keeping_none_is_refused(site):
    with pytest.raises(ConfigError, match="expected 1 or more"):
        prune(site, keep=0)


@pytest.mark.parametrize("step", ["publish_tree", "delete"])
def test_crash_leaves_no_half_version_and_the_next_run_finishes(site, monkeypatch, step):
    for version, at in (("old", 1), ("new", 2)):
        site.on_disk(version, at=at)
    with monkeypatch.context() as patched:
        delete = site.storage.delete

        def crash(key: str, *_: str) -> None:
            # The way is cleared first; the crash comes when there is something to delete.
            if step == "delete" and not site.storage.stat(f"{key}/manifest.json"):
                delete(key)
                return
            raise KeyboardInterrupt

        patched.setattr(site.storage, step, crash)
        with pytest.raises(KeyboardInterrupt):
            prune(site)
    assert site.registered().versions["old"]["removing"]
    folder = Path(site.storage.url, FOLDER, "old")
    assert (folder / "manifest.json").exists() == (folder / "recordio").exists()
    report = prune(site, keep=9)
    assert report.versions == ("old",), "what was begun is finished, whatever is kept now"
    assert site.versions() == list(site.registered().versions) == ["new"]
    assert not list(Path(site.storage.url, "work").rglob("*.rec"))


def test_adopted_tree_stays_and_only_its_entry_goes(site, tmp_path):
    trees = [class_tree(tmp_path / name) for name in ("one", "two")]
    (trees[1] / "train/n01/0.jpg").write_bytes(b"newer")
    for tree in trees:
        register_tree(site.storage, tree, "birds", site.store.owner)
    before = [files_below(tree) for tree in trees]
    store = replace(site.store, dataset="birds")
    (gone,) = prune_versions(store, 1, really=True).versions
    assert [files_below(tree) for tree in trees] == before
    assert list(store.catalog().versions) == [v for v in store.catalog().versions if v != gone]
    assert not Path(site.storage.url, "datasets/birds", gone).exists()


def adopted_in_place(site: Site, version: str, at: float) -> Path:
    """Enter a tree that lies where its own manifest is kept, as earlier releases did."""
    folder = class_tree(Path(site.storage.url, "datasets/birds", version))
    (folder / "train/n01/0.jpg").write_bytes(version.encode())
    scratch = site.storage.staging() / version
    scratch.mkdir()
    manifest = read_tree(folder, scratch)
    site.storage.publish(f"datasets/birds/{version}/files.parquet", scratch / "files.parquet")
    site.storage.create(f"datasets/birds/{version}/adopted.json", manifest.to_json())
    made = entry(manifest.tree_sha256, at, version, path=str(folder), adopted=True)
    update_registry(
        site.storage, "birds", site.store.owner, lambda known: known.with_entry(version, made)
    )
    return folder


@pytest.mark.parametrize("died", ["", "before", "mark gone", "moved aside"])
def test_images_that_lie_where_their_manifest_is_kept_are_never_removed(site, monkeypatch, died):
    old, new = (adopted_in_place(site, version, at) for version, at in (("v1", 1), ("v2", 2)))
    images = {path: path.read_bytes() for path in Path(site.storage.url).rglob("*.jpg")}
    before = files_below(new)
    store = replace(site.store, dataset="birds")
    if died:
        with monkeypatch.context() as patched:
            patched.setattr("imagenet_etl.pruning.remove_folder", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                prune_versions(store, 1, really=True)
    if died == "mark gone":
        (old / "adopted.json").unlink()
    if died == "moved aside":  # by an earlier release, which would have deleted it there
        aside = Path(site.storage.url, "work/birds/removed/v1")
        aside.parent.mkdir(parents=True)
        old.rename(aside)
        images = {aside / p.relative_to(old) if old in p.parents else p: images[p] for p in images}
        old = aside
    report = prune_versions(store, 1, really=True)
    assert {path: path.read_bytes() for path in Path(site.storage.url).rglob("*.jpg")} == images
    assert files_below(new) == before
    assert not list(old.glob("*.*")), "what this package wrote there is gone"
    assert list(read_registry(site.storage, "birds").versions) == ["v2"]
    assert report.notes == (f"v1: {old} holds files that are not ours, which stay",)
    assert sum(copy.size for copy in report.copies) < 10_000


@pytest.mark.parametrize("lost", ["gone", "emptied"])
def test_adopted_version_whose_tree_is_gone_pushes_none_out(site, tmp_path, lost):
    trees = [class_tree(tmp_path / name) for name in ("one", "two")]
    (trees[1] / "train/n01/0.jpg").write_bytes(b"newer")
    for number, tree in enumerate(trees):
        register_tree(site.storage, tree, "birds", site.store.owner, f"v{number}")
    shutil.rmtree(trees[1])
    if lost == "emptied":  # as the folder of a volume that is not mounted
        trees[1].mkdir()
    store = replace(site.store, dataset="birds")
    assert prune_versions(store, 1, really=True).versions == ()
    assert where(site.storage, store.catalog(), "v0") == str(trees[0])


def test_manifest_of_another_tree_stays_and_is_told(site, tmp_path):
    folder = adopted_in_place(site, "v1", at=1)
    adopted_in_place(site, "v2", at=2)
    (folder / "adopted.json").write_text('{"tree_sha256": "other"}')
    before = files_below(folder)
    report = prune_versions(replace(site.store, dataset="birds"), 1, really=True)
    assert report.notes == (f"v1: {folder} is not what the entry tells of",)
    assert files_below(folder) == before
