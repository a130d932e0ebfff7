"""What only a storage in a folder must do."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.storages import staged

from imagenet_etl.errors import NotWritable
from imagenet_etl.storage import LocalStorage

pytestmark = pytest.mark.usefixtures("temporary_folder")


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_named(folder, monkeypatch, code):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    path = staged(folder, b"x")
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(NotWritable, match="hard links"):
        folder.publish("a/b", path)
    assert path.exists()
    assert folder.stat("a/b") is None


def test_a_file_of_another_file_system_cannot_be_published(folder):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == folder.root.parent.stat().st_dev:
        pytest.skip("there is only one file system here")
    path = other / f"imagenet-etl-test-{os.getpid()}"
    path.write_bytes(b"x")
    try:
        with pytest.raises(NotWritable, match="one POSIX file system"):
            folder.publish("a/b", path)
        assert folder.stat("a/b") is None
    finally:
        path.unlink()


def test_a_link_whose_reply_was_lost_counts_as_made(folder, monkeypatch):
    real = os.link

    def repeat(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", repeat)
    assert folder.create("a", b"x")
    assert folder.read("a") == b"x"


@pytest.mark.parametrize(
    "write",
    [
        lambda storage: storage.create("a/b/c", b"x"),
        lambda storage: storage.put("a/b/c", b"x"),
        lambda storage: storage.publish("a/b/c", staged(storage, b"x")),
        lambda storage: storage.place("a/b/c", staged(storage, b"x")),
    ],
)
def test_a_file_in_a_folders_place_is_a_typed_error(folder, write):
    folder.put("a/b", b"a file")
    with pytest.raises(NotWritable, match="a/b"):
        write(folder)
    folder.close_staging()
    assert folder.read("a/b") == b"a file"


def test_a_data_folder_that_is_a_file_is_a_typed_error(tmp_path):
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(NotWritable, match="data"):
        LocalStorage(tmp_path / "data").put("a", b"x")


def test_a_failed_write_leaves_nothing_in_staging(folder):
    folder.put("a/b", b"")
    for call in (folder.create, folder.put):
        with pytest.raises(NotWritable):
            call("a/b/c", b"x")
    assert [path.name for path in folder.staging().iterdir()] == ["owner.json"]


def test_keys_lie_where_local_path_says(folder):
    folder.put("a/b", b"x")
    path = folder.local_path("a/b")
    assert path is not None
    assert path.read_bytes() == b"x"


def _cached_pages(path: Path) -> int:
    """Return how many of a file's pages the page cache holds, as mincore(2) tells."""
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        pages = -(-size // mmap.PAGESIZE)
        told = (ctypes.c_ubyte * pages)()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), told) == 0
        del address
        gc.collect()
        return sum(value & 1 for value in told)


def test_placed_files_are_flushed_and_then_leave_the_page_cache(folder):
    if not hasattr(ctypes.CDLL(None), "mincore"):
        pytest.skip("there is no mincore here")
    data = os.urandom(40 * mmap.PAGESIZE)
    for name in ("a/x/1", "a/x/2"):
        folder.place(name, staged(folder, data))
    path = folder.root / "a/x/1"
    assert path.read_bytes() == data
    if _file_system(path) == "tmpfs":
        pytest.skip("here the page cache is the disk")
    folder.flush("a")
    assert _cached_pages(path) < 40
    assert path.read_bytes() == data


def test_what_is_gone_before_the_flush_is_no_matter(folder):
    folder.place("a/x", staged(folder, b"x"))
    (folder.root / "a/x").unlink()
    folder.flush("a")
    assert folder.stat("a/x") is None


def _file_system(path: Path) -> str:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    inside = [(point, kind) for _, point, kind, *_ in mounts if path.is_relative_to(point)]
    return max(inside, key=lambda mount: len(mount[0]))[1]
