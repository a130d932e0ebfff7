"""An archive that changes or is replaced while a run uses it."""

import os
import zipfile
from pathlib import Path

import pytest
from tests.support.archives import write_zip

from imagenet_etl.archives.location import ArchiveRef, open_archive
from imagenet_etl.archives.zip import list_zip
from imagenet_etl.errors import ArchiveChanged
from imagenet_etl.storage import LocalStorage, open_local

MEMBERS = {"a/1.JPEG": b"first" * 40, "a/2.JPEG": b"", "wnids.txt": bytes(range(256)) * 9}


def opened(path: Path):
    state = path.stat()
    return ArchiveRef("x.zip", str(path), state.st_size, str(state.st_mtime_ns))


def first_member(path):
    with open_local(path) as file:
        return next(list_zip(file, "x.zip"))


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_an_archive_that_changed_since_it_was_indexed_is_noticed_at_opening(tmp_path, change):
    path = write_zip(tmp_path / "x.zip", MEMBERS)
    ref = opened(path)
    if change == "size":
        path.write_bytes(path.read_bytes() + b"x")
        os.utime(path, ns=(0, int(ref.tag)))
    elif change == "time":
        os.utime(path, ns=(0, int(ref.tag) + 1))
    else:
        path.unlink()
    with pytest.raises(ArchiveChanged) as caught, open_archive(LocalStorage(tmp_path), ref):
        pass
    assert str(path) in str(caught.value)


def test_an_archive_that_is_replaced_while_open_is_noticed_at_the_end(tmp_path):
    path = write_zip(tmp_path / "x.zip", MEMBERS)
    member = first_member(path)
    with open_archive(LocalStorage(tmp_path), opened(path)) as archive:
        assert archive.read(member) == MEMBERS[member.name]
        other = write_zip(tmp_path / "other.zip", MEMBERS)
        other.replace(path)
        with pytest.raises(ArchiveChanged, match="changed since it was verified"):
            archive.check()


@pytest.mark.parametrize("renamed", [{"b/1.JPEG": b"first" * 40}, {"a/1.JPEG": b"FIRST" * 40}])
def test_a_replacement_of_the_same_size_and_time_is_noticed_by_its_headers(tmp_path, renamed):
    path = write_zip(tmp_path / "x.zip", {"a/1.JPEG": b"first" * 40}, zipfile.ZIP_STORED)
    ref, member = opened(path), first_member(path)
    write_zip(path, renamed, zipfile.ZIP_STORED)
    os.utime(path, ns=(0, int(ref.tag)))
    with open_archive(LocalStorage(tmp_path), ref) as archive:
        archive.check()
        with pytest.raises(ArchiveChanged, match=r"a/1.JPEG is no longer at byte 0"):
            archive.read(member)


def test_a_replacement_whose_members_moved_is_noticed_by_its_headers(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a": b"1" * 50, "b": b"2" * 9}, zipfile.ZIP_STORED)
    ref, member = opened(path), first_member(path)
    write_zip(path, {"b": b"2" * 9, "a": b"1" * 50}, zipfile.ZIP_STORED)
    os.utime(path, ns=(0, int(ref.tag)))
    with (
        open_archive(LocalStorage(tmp_path), ref) as archive,
        pytest.raises(ArchiveChanged, match="a is no longer at byte 0"),
    ):
        archive.read(member)
