"""The mark by which a worker tells that it sees the shared data folder."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from threading import Barrier, Thread

import pytest

from imagenet_etl.cli import DONE, USAGE, main
from imagenet_etl.errors import SchemaTooNew, StorageError
from imagenet_etl.shared_folder import MARK, FolderMark, check_shared, read_mark, share_folder
from imagenet_etl.storage import LocalStorage


def test_folder_is_made_and_marked_by_whom_and_when(tmp_path: Path) -> None:
    mark, is_new = share_folder(tmp_path / "fsx" / "imagenet")
    assert is_new
    fields = json.loads((tmp_path / "fsx" / "imagenet" / MARK).read_text())
    assert fields == {
        "schema_version": 1, "id": mark.id, "made_by": socket.gethostname(), "at": mark.at,
    }  # fmt: skip
    assert check_shared(LocalStorage(tmp_path / "fsx" / "imagenet")) == mark


def test_mark_can_be_read_by_other_users_whoever_makes_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        share_folder(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o644


def test_second_call_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    mark, _ = share_folder(tmp_path)
    state = (tmp_path / MARK).stat()
    assert share_folder(tmp_path) == (mark, False)
    assert (tmp_path / MARK).stat().st_mtime_ns == state.st_mtime_ns
    assert (tmp_path / "there").read_text() == "before"


def test_of_many_that_mark_at_once_one_wins(tmp_path: Path) -> None:
    start, results = Barrier(8), list[tuple[FolderMark, bool]]()

    def mark() -> None:
        start.wait()
        results.append(share_folder(tmp_path))

    threads = [Thread(target=mark) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({mark.id for mark, _ in results}) == 1
    assert [is_new for _, is_new in results].count(True) == 1
    assert [path.name for path in tmp_path.iterdir()] == [MARK]


def test_two_folders_have_two_ids(tmp_path: Path) -> None:
    assert share_folder(tmp_path / "a")[0].id != share_folder(tmp_path / "b")[0].id


@pytest.mark.parametrize(
    ("name", "found"),
    [("none", "no such folder"), ("empty", "an empty folder"), ("full", "a folder without it"),
     ("full/file", "Not a directory")],
)  # fmt: skip
def test_worker_without_the_mount_says_what_it_sees(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError) as caught:
        check_shared(LocalStorage(tmp_path / name))
    text = str(caught.value)
    assert f"worker {socket.gethostname()} does not see the data folder {tmp_path}/{name}" in text
    assert f"found {found}." in text
    assert f"share-folder {tmp_path}/{name}" in text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema_version": 1}'])
def test_a_damaged_mark_is_no_mark(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARK).write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        read_mark(LocalStorage(tmp_path))
    with pytest.raises(StorageError, match="is damaged"):
        share_folder(tmp_path)
    assert (tmp_path / MARK).read_bytes() == content


def test_a_newer_mark_is_refused_kindly(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text(json.dumps({"schema_version": 2, "folder": "x"}))
    with pytest.raises(SchemaTooNew):
        read_mark(LocalStorage(tmp_path))


def test_command_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["share-folder", str(tmp_path / "x")]) == DONE
    assert "is marked now" in capsys.readouterr().out
    assert main(["share-folder", str(tmp_path / "x")]) == DONE
    told = capsys.readouterr().out
    assert f"was marked before, on {socket.gethostname()}" in told


def test_command_refuses_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["share-folder", "s3://bucket/prefix"]) == USAGE
    assert "s3://bucket/prefix is no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
