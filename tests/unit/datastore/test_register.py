"""Adopting a tree that somebody else made."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.unit.datastore.helpers import class_tree

from imagenet_etl.datastore import adopt
from imagenet_etl.datastore.disk import read_registry
from imagenet_etl.datastore.register import register_tree
from imagenet_etl.errors import (
    ConfigError,
    SourceNotFound,
    UnexpectedMember,
    UnsafeMember,
    VersionConflict,
)
from imagenet_etl.files import canonical_json, hash_file
from imagenet_etl.leases import Owner
from imagenet_etl.storage import LocalStorage
from imagenet_etl.tables import read_table

OWNER = Owner("cli-1", "x")


@pytest.fixture
def storage(tmp_path: Path):
    storage = LocalStorage(tmp_path / "data")
    yield storage
    storage.close_staging()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return class_tree(tmp_path / "tree")


def register(storage, tree, version=""):
    return register_tree(storage, tree, "birds", OWNER, version)


def test_tree_is_entered_as_it_stands(storage, tree):
    before = files_below(tree)
    version, entry = register(storage, tree)
    assert files_below(tree) == before
    assert entry["path"] == str(tree)
    assert entry["formats"] == {"imagefolder": "."}
    assert entry["counts"] == {"files": 12, "images": 12, "train": 6, "val": 6, "classes": 2}
    assert entry["bytes"] == sum(path.stat().st_size for path in tree.rglob("*.jpg"))
    assert version == entry["manifest_sha256"][:8]
    assert read_registry(storage, "birds").versions == {version: entry}


def test_manifest_lists_every_file_and_its_digest_is_over_all(storage, tree):
    (tree / "README.txt").write_text("hello")
    version, entry = register(storage, tree)
    rows = read_table(storage, f"datasets/birds/{version}/files.parquet").to_pylist()
    names = [row["path"] for row in rows]
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert len(names) == 13
    state = hashlib.sha256()
    for row in rows:
        sha256 = hash_file(tree / row["path"], "sha256")["sha256"]
        state.update(canonical_json([row["path"], row["size"], sha256]) + b"\n")
    mark = json.loads(storage.read(f"datasets/birds/{version}/adopted.json"))
    assert mark["tree_sha256"] == entry["manifest_sha256"] == state.hexdigest()
    assert mark["layout"] == "split/class/image"


def test_same_tree_again_changes_nothing(storage, tree):
    version, entry = register(storage, tree)
    before = files_below(Path(storage.url, "datasets"))
    assert register(storage, tree) == (version, entry)
    assert files_below(Path(storage.url, "datasets")) == before


def test_tree_that_was_moved_gets_its_new_path(storage, tree, tmp_path):
    version, _ = register(storage, tree)
    moved = tree.rename(tmp_path / "moved")
    assert register(storage, moved)[1]["path"] == str(moved)
    assert list(read_registry(storage, "birds").versions) == [version]


def test_other_content_needs_another_name(storage, tree):
    register(storage, tree, "v1")
    (tree / "train/n01/0.jpg").write_bytes(b"other")
    with pytest.raises(VersionConflict, match="'v1' of birds is registered with other content"):
        register(storage, tree, "v1")
    version, _ = register(storage, tree)
    assert read_registry(storage, "birds").latest == version


def test_digest_does_not_depend_on_how_far_ahead_is_hashed(storage, tree, monkeypatch):
    _, first = register(storage, tree)
    monkeypatch.setattr(adopt, "_AHEAD", 1)
    assert register(storage, tree)[1] == first


def test_classes_without_splits(storage, tmp_path):
    tree = class_tree(tmp_path / "t", {"cat/1.JPEG": b"1", "cat/2.png": b"2", "dog/1.webp": b"3"})
    _, entry = register(storage, tree)
    assert entry["counts"] == {"files": 3, "images": 3, "classes": 2}


def test_images_of_a_split_without_classes_are_counted_as_unlabelled(storage, tmp_path):
    tree = class_tree(tmp_path / "t", {"train/n01/1.jpg": b"1", "test/1.jpg": b"2"})
    _, entry = register(storage, tree)
    assert entry["counts"] == {"files": 2, "images": 1, "train": 1, "classes": 1, "unlabelled": 1}


@pytest.mark.parametrize("name", ["1.jpg", "train/n01/images/1.jpg"])
def test_image_outside_a_class_folder_is_refused(storage, tmp_path, name):
    tree = class_tree(tmp_path / "t", {name: b"1"})
    with pytest.raises(UnexpectedMember, match=f"found {name}"):
        register(storage, tree)


@pytest.mark.parametrize("files", [{}, {"train/n01/labels.txt": b"1"}])
def test_tree_without_images_is_refused(storage, tmp_path, files):
    (tmp_path / "t").mkdir()
    with pytest.raises(SourceNotFound, match="holds no image"):
        register(storage, class_tree(tmp_path / "t", files))


def test_missing_folder_is_refused(storage, tmp_path):
    with pytest.raises(SourceNotFound, match="is no folder"):
        register(storage, tmp_path / "nowhere")


def test_links_out_of_the_tree_and_to_folders_are_refused(storage, tree, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    link = tree / "train/n01/link.jpg"
    for target in (tmp_path / "secret.jpg", tree / "val", tree / "nowhere", link):
        link.symlink_to(target)
        with pytest.raises(UnsafeMember, match="a link that cannot be adopted"):
            register(storage, tree)
        link.unlink()
    os.mkfifo(link)
    with pytest.raises(UnsafeMember, match="no regular file"):
        register(storage, tree)
    assert read_registry(storage, "birds").versions == {}


def test_link_inside_the_tree_is_read_as_what_it_stands_for(storage, tree):
    (tree / "val/n01/link.jpg").symlink_to("../../train/n01/0.jpg")
    _, entry = register(storage, tree)
    assert entry["counts"]["val"] == 7


def test_name_that_is_not_utf8_is_refused(storage, tree):
    Path(os.fsdecode(os.fsencode(tree) + b"/train/n01/\xff.jpg")).touch()
    with pytest.raises(UnexpectedMember, match="not UTF-8"):
        register(storage, tree)


@pytest.mark.parametrize("name", ["tiny_imagenet", "..", "a/b", ""])
def test_names_that_are_ours_or_no_names_are_refused(storage, tree, name):
    with pytest.raises(ConfigError):
        register_tree(storage, tree, name, OWNER)


@pytest.mark.parametrize("version", ["registry.json", "a/b"])
def test_version_follows_the_rule_of_all_versions(storage, tree, version):
    with pytest.raises(ConfigError, match="setting version"):
        register(storage, tree, version)


def test_tree_that_holds_the_data_folder_is_refused(storage, tmp_path):
    with pytest.raises(ConfigError, match="lies in the tree"):
        register(storage, tmp_path)


def test_table_left_by_one_who_died_before_its_mark_is_replaced(storage, tree):
    version, _ = register(storage, tree)
    storage.delete(f"datasets/birds/{version}/adopted.json")
    storage.put(f"datasets/birds/{version}/files.parquet", b"half")
    register(storage, tree)
    assert read_table(storage, f"datasets/birds/{version}/files.parquet").num_rows == 12


@pytest.mark.parametrize(
    "place",
    [
        "datasets/birds",
        "datasets/birds/v1",
        "datasets/birds/v1/images",
        "datasets/others/v1",
        "work",
        "work/birds/tree",
        ".staging/tree",
    ],
)
def test_tree_where_this_package_writes_and_removes_is_refused(storage, place):
    tree = class_tree(Path(storage.url, place))
    before = files_below(Path(storage.url))
    with pytest.raises(ConfigError, match=r"the tree .* is where this package writes and removes"):
        register(storage, tree, "v1")
    assert files_below(Path(storage.url)) == before


@pytest.mark.parametrize("linked", ["datasets/birds", "datasets/birds/v1", "work"])
def test_tree_that_a_link_brings_there_is_refused(storage, tree, linked):
    link = Path(storage.url, linked)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tree)
    before = files_below(tree)
    with pytest.raises(ConfigError, match="this package writes"):
        register(storage, tree, "v1")
    assert files_below(tree) == before


@pytest.mark.parametrize("place", ["birds", "archives/birds", "datasets-of-mine/birds/v1"])
def test_tree_elsewhere_in_the_data_folder_is_adopted(storage, place):
    tree = class_tree(Path(storage.url, place))
    before = files_below(tree)
    version, entry = register(storage, tree)
    assert register(storage, tree) == (version, entry)
    assert files_below(tree) == before
