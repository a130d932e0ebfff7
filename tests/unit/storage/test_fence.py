"""A fence: whoever revokes it keeps what another process has under way from its final name."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.support.moto_server import MotoServer
from tests.support.storages import describe_new, keys, opened, staged

from imagenet_etl import files
from imagenet_etl.errors import LeaseLost, NotEnoughSpace, NotWritable
from imagenet_etl.storage import LocalStorage, folder_lock

WRITES = [
    lambda storage, _: storage.create("a/new", b"x"),
    lambda storage, _: storage.put("a/old", b"x"),
    lambda storage, path: storage.publish("a/b/new", path),
    lambda storage, path: storage.place("a/old", path),
    lambda storage, path: storage.place("a/b/new", path),
    lambda storage, _: storage.swap("a/old", b"x", storage.stat("a/old")),
    lambda storage, _: storage.remove("a/old"),
    lambda storage, _: storage.delete("a"),
]


@pytest.fixture
def other(folder: LocalStorage) -> LocalStorage:
    """The same folder, as another process sees it."""
    folder.put("a/old", b"old")
    return LocalStorage(folder.root)


@pytest.mark.parametrize("write", WRITES)
def test_no_write_of_a_process_whose_fence_was_revoked_arrives(folder, other, write):
    path = staged(folder, b"finished")
    other.revoke([folder.staging_name()])
    with pytest.raises(LeaseLost, match=r"is gone\. Who takes a run over removes it"):
        write(folder, path)
    assert keys(other, ".") == ["a/old"]
    assert other.read("a/old") == b"old"
    assert [path.name for path in (other.root / ".staging").iterdir()] == []


@pytest.mark.parametrize("write", WRITES)
def test_nor_does_one_of_a_process_that_works_for_it(folder, other, write):
    within = folder.staging() / "workers"
    within.mkdir()
    worker = LocalStorage(folder.root, within)
    path = staged(worker, b"finished")
    assert path.parent == within
    other.revoke([folder.staging_name()])
    with pytest.raises(LeaseLost):
        write(worker, path)
    assert keys(other, ".") == ["a/old"]


def test_a_folder_that_comes_back_by_accident_is_not_taken_for_the_old_one(folder, other):
    path = staged(folder, b"finished")
    other.revoke([folder.staging_name()])
    path.parent.mkdir()  # as by a writer that makes a folder below it
    with pytest.raises(LeaseLost):
        folder.put("a/old", b"x")


def test_a_workers_folder_that_comes_back_does_not_bring_the_fence_back(folder, other):
    within = folder.staging() / "workers"
    within.mkdir()
    worker = LocalStorage(folder.root, within)
    other.revoke([folder.staging_name()])
    (within / "segment").mkdir(parents=True)
    with pytest.raises(LeaseLost):
        worker.create("a/new", b"x")


def test_who_begins_anew_gets_a_new_fence(folder, other):
    fence = folder.staging_name()
    other.revoke([fence])
    folder.close_staging()
    assert folder.staging_name() != fence
    assert folder.create("a/new", b"x")


def test_emptied_staging_keeps_its_fence(folder, other):
    fence = folder.staging_name()
    path = staged(folder, b"half")
    (path.parent / "deep/er").mkdir(parents=True)
    folder.clear_staging()
    assert [path.name for path in folder.staging().iterdir()] == ["owner.json"]
    assert folder.staging_name() == fence
    other.revoke([fence])
    folder.clear_staging()
    with pytest.raises(LeaseLost):
        folder.staging_name()


def test_what_is_ones_own_or_gone_or_no_fence_passes(folder, other):
    fence = folder.staging_name()
    outside = str(folder.root / "a")
    folder.revoke((fence, "gone-1-2", "", ".", "..", "../a", f"{fence}/owner.json", outside))
    assert folder.create("a/new", b"x")
    folder.close_staging()
    other.revoke([fence])
    assert keys(other, ".") == ["a/new", "a/old"]


def test_a_revoked_folder_that_could_not_be_removed_is_swept_when_old(
    folder: LocalStorage, other: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        other.revoke([folder.staging_name()])
    (left,) = (other.root / ".staging").iterdir()
    assert ".revoked-" in left.name
    assert not (left / "owner.json").exists()
    assert other.sweep_staging() == 0
    os.utime(left, (0, 0))
    assert other.sweep_staging() == 1
    assert not left.exists()


def test_what_a_dead_process_had_revoked_and_not_removed_is_removed_by_the_next(
    folder: LocalStorage, other: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(folder, b"finished")
    fence = folder.staging_name()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        other.revoke([fence])
    LocalStorage(folder.root).revoke([fence])
    assert list((other.root / ".staging").iterdir()) == []


@pytest.fixture
def late(
    folder: LocalStorage, other: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], None], Callable[[], None]], None]:
    """Let something happen between the look at a tree and its rename, and right after that."""
    folder.put("work/tree/mark", b"")
    publish_folder = files.publish_folder

    def happens(before: Callable[[], None], after: Callable[[], None]) -> None:
        def publish(source: Path, final: Path) -> None:
            before()
            publish_folder(source, final)
            after()

        monkeypatch.setattr(files, "publish_folder", publish)
        with pytest.raises(LeaseLost, match="another one than it was"):
            folder.publish_tree("work/tree", "final", "mark")

    return happens


def test_a_tree_that_became_another_one_since_the_look_is_not_published(other, late):
    def replaced() -> None:
        other.delete("work/tree")
        other.put("work/tree/new", b"half")

    late(replaced, lambda: None)
    assert keys(other, ".") == ["a/old", "work/tree/new"]


def test_a_tree_is_put_aside_where_another_one_has_come_to_its_name_again(other, late):
    def replaced() -> None:
        other.delete("work/tree")
        other.put("work/tree/new", b"half")

    late(replaced, lambda: other.put("work/tree/newer", b""))
    old, aside, newer = keys(other, ".")
    assert (old, newer) == ("a/old", "work/tree/newer")
    assert re.fullmatch(r"work/tree\.late-\w{8}/new", aside)


def test_a_tree_that_went_away_since_the_look_is_not_published(other, late):
    late(lambda: (other.root / "work/tree").rename(other.root / "moved"), lambda: None)
    assert keys(other, ".") == ["a/old", "moved/mark"]


def test_a_swap_does_not_wait_for_ever_for_one_that_is_suspended(folder, other, monkeypatch):
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.1)
    with folder_lock.alone_in(folder.root / "a"):
        assert other.swap("a/old", b"new", other.stat("a/old"))
    assert folder.read("a/old") == b"new"


def test_what_is_removed_where_staging_cannot_be_made_makes_room_all_the_same(
    folder: LocalStorage, other: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.put("a/b/c", b"")
    folder.close_staging()
    monkeypatch.setattr(folder, "staging", Mock(side_effect=NotEnoughSpace("the disk is full")))
    folder.remove("a/old")
    folder.delete("a/b")
    assert keys(other, ".") == []


def test_what_cannot_be_removed_wholly_stays_to_be_seen(folder, other, monkeypatch):
    other.put("a/b/c", b"")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refused)
        with pytest.raises(NotWritable):
            folder.delete("a/b")
    assert keys(other, "a") == ["a/b/c", "a/old"]


def test_what_lies_on_another_disk_is_removed_there(folder, other, monkeypatch):
    def elsewhere(*_: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    other.put("a/b/c", b"")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", elsewhere)
        folder.remove("a/old")
        folder.delete("a/b")
    assert keys(other, ".") == []


def test_scratch_for_a_bucket_that_a_cleaner_has_removed_is_made_anew(
    moto: MotoServer, tmp_path: Path
) -> None:
    with opened(describe_new("bucket", tmp_path, moto)) as bucket:
        shutil.rmtree(bucket.staging())
        assert staged(bucket, b"x").exists()


def test_a_bucket_has_no_fence(moto: MotoServer, tmp_path: Path):
    with opened(describe_new("bucket", tmp_path, moto)) as bucket:
        assert bucket.staging_name() == ""
        bucket.revoke(["anything"])
