"""Loose files that share blocks or inodes with an unpacked source, which stays as it is."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.small_disk import small_disk
from tests.unit.records.helpers import record
from tests.unit.records.sharing import KINDS, MTIME_NS, all_shared, sharing_disk, state_of

from imagenet_etl.errors import ArchiveChanged, NotWritable
from imagenet_etl.files import sync_filesystem
from imagenet_etl.records import imagefolder
from imagenet_etl.records.base import Origin
from imagenet_etl.records.imagefolder import ImageFolderWriter
from imagenet_etl.storage import LocalStorage

DATA = os.urandom(300_000)


def source_file(folder: Path, data: bytes = DATA) -> Path:
    """Write a source's file with the mtime that ``origin_of`` expects."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"image-{len(list(folder.iterdir()))}.JPEG"
    path.write_bytes(data)
    os.utime(path, ns=(0, MTIME_NS))
    return path


def from_file(path: Path, position: int = 0, *, hardlink: bool = False):
    """Return a record as it is after the source's file was read."""
    return record(position, DATA, origin=Origin(path, len(DATA), MTIME_NS, hardlink))


def written(folder: Path, *records):
    """Write records; return the paths in staging."""
    with ImageFolderWriter(folder) as writer:
        for one in records:
            writer.write(one)
        return [file.path for file in writer.commit()]


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    with small_disk(tmp_path / "elsewhere", "8m") as folder:
        yield folder


def test_where_blocks_cannot_be_shared_the_bytes_are_written(tmp_path, elsewhere):
    path = source_file(elsewhere)
    (copy,) = written(tmp_path / "out", from_file(path))
    assert copy.read_bytes() == DATA
    assert path.stat().st_nlink == 1


def test_a_file_system_that_has_refused_is_not_asked_again(tmp_path, elsewhere, monkeypatch):
    asked = []
    real = imagefolder.clone_file
    monkeypatch.setattr(imagefolder, "clone_file", lambda *fds: asked.append(fds) or real(*fds))
    records = [from_file(source_file(elsewhere), number) for number in range(3)]
    copies = written(tmp_path / "out", *records)
    assert [copy.read_bytes() for copy in copies] == [DATA] * 3
    assert len(asked) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_trouble_while_sharing_is_no_refusal(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(imagefolder, "clone_file", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        written(tmp_path / "out", from_file(source_file(tmp_path / "source")))
    assert caught.value.filename == str(tmp_path / "out/0")
    assert not (tmp_path / "out").exists()


def test_a_hard_link_is_the_same_file_and_leaves_the_source_as_it_was(tmp_path):
    path = source_file(tmp_path / "source")
    before = state_of(path)
    (link,) = written(tmp_path / "out", from_file(path, hardlink=True))
    assert link.samefile(path)
    assert path.stat().st_nlink == 2
    assert state_of(path) == before


def test_a_hard_link_to_another_file_system_is_refused_with_a_remedy(tmp_path, elsewhere):
    path = source_file(elsewhere)
    with pytest.raises(NotWritable) as caught:
        written(tmp_path / "out", from_file(path, hardlink=True))
    assert str(path) in str(caught.value)
    assert os.strerror(errno.EXDEV) in str(caught.value)
    assert "hardlink off" in caught.value.remedy
    assert not (tmp_path / "out").exists()


def grow(path):
    with path.open("ab") as file:
        file.write(b"x")
    os.utime(path, ns=(0, MTIME_NS))


def touch(path):
    path.write_bytes(DATA)


def replace_by_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


CHANGES = [grow, touch, replace_by_link, Path.unlink]


@pytest.mark.parametrize("hardlink", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_that_changed_after_it_was_read_is_noticed(tmp_path, change, hardlink):
    path = source_file(tmp_path / "source")
    one = from_file(path, hardlink=hardlink)
    change(path)
    with pytest.raises(ArchiveChanged, match="changed since it was indexed") as caught:
        written(tmp_path / "out", one)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_source_whose_folder_became_a_file_is_noticed(tmp_path):
    path = source_file(tmp_path / "source")
    shutil.rmtree(path.parent)
    path.parent.write_text("")
    for hardlink in (False, True):
        with pytest.raises(ArchiveChanged):
            written(tmp_path / "out", from_file(path, hardlink=hardlink))


@pytest.mark.parametrize("hardlink", [False, True])
@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_source_does_not_hang(tmp_path, hardlink):
    path = source_file(tmp_path / "source")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArchiveChanged):
        written(tmp_path / "out", from_file(path, hardlink=hardlink))


def test_discarding_links_leaves_the_source(tmp_path):
    path = source_file(tmp_path / "source")
    before = state_of(path)
    with pytest.raises(KeyboardInterrupt), ImageFolderWriter(tmp_path / "out") as writer:
        writer.write(from_file(path, hardlink=True))
        raise KeyboardInterrupt
    assert state_of(path) == before
    assert path.read_bytes() == DATA
    assert path.stat().st_nlink == 1


def test_a_link_is_placed_over_that_of_a_dead_predecessor(tmp_path):
    """To rename one link of a file over another one does nothing at all, by POSIX."""
    path = source_file(tmp_path / "source")
    storage = LocalStorage(tmp_path / "data")
    for number in range(2):
        staged = written(storage.staging() / f"{number}", from_file(path, hardlink=True))[0]
        storage.place("tree/x.JPEG", staged)
        shutil.rmtree(staged.parent)  # as the packer does
    assert (tmp_path / "data/tree/x.JPEG").samefile(path)
    assert path.stat().st_nlink == 2


def test_an_image_without_an_origin_is_written(tmp_path):
    one = replace(from_file(source_file(tmp_path / "source"), hardlink=True), origin=None)
    (copy,) = written(tmp_path / "out", one)
    assert copy.stat().st_nlink == 1


def test_two_images_of_one_name_are_refused(tmp_path):
    with pytest.raises(FileExistsError), ImageFolderWriter(tmp_path / "out") as writer:
        writer.write(record(0))
        writer.write(record(0))
    assert not (tmp_path / "out").exists()


@pytest.fixture(params=KINDS)
def disk(request, tmp_path):
    """A file system that shares blocks, in a file that is mounted."""
    with sharing_disk(tmp_path, request.param) as folder:
        yield folder


def test_blocks_are_shared_and_a_later_write_to_either_stays_its_own(disk):
    path = source_file(disk / "source")
    before = state_of(path)
    plain = source_file(disk / "source")
    (clone,) = written(disk / "out", from_file(path))
    assert all_shared(clone)
    assert all_shared(path)
    assert not all_shared(plain)
    assert state_of(path) == before
    assert not clone.samefile(path)
    with path.open("r+b") as file:
        file.write(b"changed")
    assert clone.read_bytes() == DATA


def test_shared_blocks_take_no_room(disk):
    data = os.urandom(8 << 20)
    path = source_file(disk / "source", data)
    sync_filesystem(disk)
    free = os.statvfs(disk).f_bavail
    one = record(0, data, origin=Origin(path, len(data), MTIME_NS))
    copies = written(disk / "out", *(replace(one, file_name=f"{n}.JPEG") for n in range(20)))
    sync_filesystem(disk)
    taken = (free - os.statvfs(disk).f_bavail) * os.statvfs(disk).f_frsize
    assert len(copies) == 20
    assert taken < 8 << 20


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_that_changed_is_noticed_where_blocks_are_shared(disk, change):
    path = source_file(disk / "source")
    one = from_file(path)
    change(path)
    with pytest.raises(ArchiveChanged):
        written(disk / "out", one)
    assert not (disk / "out").exists()
