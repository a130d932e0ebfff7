"""A check that is done in slices finds what one in one go does, and reads nothing twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagenet_etl.check import Checked, Tree, check_tree, loose
from imagenet_etl.check.run import Run
from imagenet_etl.errors import Cancelled, DatasetDamaged, StillPending
from imagenet_etl.manifest import parse_manifest
from imagenet_etl.storage import LocalStorage, Stat
from imagenet_etl.verify import verify_folder

NOTES = "checked.json"


class Goes:
    """A version that is checked go by go, each with its slice over from the beginning."""

    def __init__(self, version: Path, notes: Path) -> None:
        self.tree, self.notes = Tree(LocalStorage(version), "."), LocalStorage(notes)
        self.manifest = parse_manifest((version / "manifest.json").read_bytes(), "manifest.json")

    def go(self, run: str = "run", slice_s: float = 0.0) -> dict[str, int]:
        return check_tree(self.tree, self.manifest, Checked(self.notes, NOTES, run, slice_s))

    def noted(self) -> dict[str, str]:
        return dict(json.loads(self.notes.read(NOTES) or b'{"files": {}}')["files"])

    def all(self) -> tuple[dict[str, int], int]:
        """Return the result, and in how many goes it was reached."""
        for number in range(1, 200):
            before = len(self.noted())
            try:
                return self.go(), number
            except StillPending:
                assert len(self.noted()) > before
        raise AssertionError("no end")


@pytest.fixture
def goes(version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Goes:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})  # few threads, many goes
    monkeypatch.setattr(loose, "_BATCH", 4)
    return Goes(version, tmp_path / "notes")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each file was read for its digest."""
    counts, check = Counter[str](), Run.check_file

    def counted(run: Run, file: object) -> None:
        counts[file.name] += 1  # type: ignore[attr-defined]
        check(run, file)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "check_file", counted)
    return counts


def test_slices_find_what_one_go_does_and_read_each_file_once(
    goes: Goes, version: Path, read: Counter[str]
) -> None:
    whole = verify_folder(version)
    once = dict(read)
    read.clear()
    result, count = goes.all()
    assert count > 3
    assert result == whole
    assert dict(read) == once
    assert set(once.values()) == {1}


def test_a_slice_that_is_long_enough_is_one_go(goes: Goes, version: Path) -> None:
    assert goes.go(slice_s=3600) == verify_folder(version)


@pytest.mark.parametrize("name", ["records.parquet", "recordio/train/train_00000.idx"])
def test_a_file_that_was_changed_since_is_read_again(goes: Goes, version: Path, name: str) -> None:
    goes.all()
    damaged = version / name
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DatasetDamaged, match=damaged.name):
        goes.all()


def test_a_loose_file_that_was_changed_since_is_read_again(goes: Goes, version: Path) -> None:
    goes.all()
    image = next((version / "imagefolder" / "train").rglob("*.JPEG"))
    os.utime(image, ns=(1, 1))
    assert goes.go(slice_s=3600) == verify_folder(version)
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    with pytest.raises(DatasetDamaged, match=image.name):
        goes.all()


class Asked(LocalStorage):
    """Reads a folder as if it were a bucket's, and notes of which keys the state is asked."""

    on_disk = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: list[str] = []

    def stat(self, key: str) -> Stat | None:
        self.keys.append(key)
        return super().stat(key)


def test_in_a_bucket_no_request_is_spent_on_the_state_of_each_loose_file(
    goes: Goes, version: Path, read: Counter[str]
) -> None:
    whole = verify_folder(version)
    read.clear()
    storage = Asked(version)
    goes.tree = Tree(storage, ".")
    result, count = goes.all()
    assert count > 3
    assert result == whole
    assert set(read.values()) == {1}
    assert "./records.parquet" in storage.keys
    assert [key for key in storage.keys if key.endswith(".JPEG")] == []


def test_a_file_that_was_lost_since_is_missed(goes: Goes, version: Path) -> None:
    goes.all()
    (version / "lmdb/labels.txt").unlink()
    with pytest.raises(DatasetDamaged, match=r"labels\.txt"):
        goes.all()


def test_damage_is_found_in_whatever_go_comes_to_it(goes: Goes, version: Path) -> None:
    shard = version / "recordio/val/val_00000.rec"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DatasetDamaged, match=r"val_00000\.rec"):
        goes.all()
    assert "recordio/val/val_00000.rec" not in goes.noted()


def test_another_run_believes_no_notes(goes: Goes, read: Counter[str]) -> None:
    goes.all()
    read.clear()
    goes.go("another", slice_s=3600)
    assert read["records.parquet"] == 1
    assert read["recordio/train/train_00000.idx"] == 1


def test_a_go_that_is_stopped_keeps_what_it_has_done(
    goes: Goes, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_of = Checked.state_of

    def stopped(checked: Checked, tree: Tree, files: list[object]) -> str:
        if len(checked._notes) >= 3:
            raise Cancelled("SIGTERM")
        return state_of(checked, tree, files)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Checked, "state_of", stopped)
        with pytest.raises(Cancelled):
            goes.go(slice_s=3600)
    assert len(goes.noted()) >= 3


def test_a_killed_go_has_saved_now_and_then(goes: Goes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagenet_etl.check.checked.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(Checked, "save", lambda _checked: None)  # a kill runs no finally
    with pytest.raises(StillPending):
        goes.go()
    assert goes.noted()
