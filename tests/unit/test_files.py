"""Durable files: what is published is whole, never replaces, and troubles are typed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl import files
from imagenet_etl.errors import KeyExists, NotEnoughSpace, NotWritable, SchemaTooNew


@pytest.fixture
def calls(monkeypatch):
    """Record the calls that decide what survives a power cut, in their order."""
    seen: list[tuple[str, ...]] = []
    real_fsync, real_link, real_rename = os.fsync, os.link, Path.rename

    def fsync(fd: int) -> None:
        seen.append(("fsync", Path(f"/proc/self/fd/{fd}").readlink().name))
        real_fsync(fd)

    def link(source: Path, target: Path) -> None:
        seen.append(("link", Path(target).name))
        real_link(source, target)

    def rename(source: Path, target: Path) -> Path:
        seen.append(("rename", Path(target).name))
        return real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(
        files, "sync_filesystem", lambda folder: seen.append(("syncfs", folder.name))
    )
    return seen


def test_a_published_file_is_flushed_before_and_after_it_gets_its_name(tmp_path, calls):
    staged = tmp_path / "staged"
    staged.write_bytes(b"x")
    files.publish_file(staged, tmp_path / "a" / "b" / "final")
    assert calls == [
        ("fsync", "staged"),
        ("fsync", tmp_path.name),  # holds the new folder a
        ("fsync", "a"),
        ("link", "final"),
        ("fsync", "b"),
    ]
    assert (tmp_path / "a/b/final").read_bytes() == b"x"
    assert not staged.exists()


def test_a_published_file_is_never_replaced(tmp_path):
    staged, final = tmp_path / "staged", tmp_path / "final"
    staged.write_bytes(b"new")
    final.write_bytes(b"old")
    with pytest.raises(KeyExists, match="final exists already"):
        files.publish_file(staged, final)
    assert (staged.read_bytes(), final.read_bytes()) == (b"new", b"old")


def test_a_dangling_link_in_the_way_is_not_replaced(tmp_path):
    staged, final = tmp_path / "staged", tmp_path / "final"
    staged.write_bytes(b"new")
    final.symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyExists):
        files.publish_file(staged, final)
    assert final.is_symlink()


def test_a_published_folder_is_flushed_before_and_after_its_rename(tmp_path, calls):
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "x").write_bytes(b"x")
    files.publish_folder(staged, tmp_path / "a" / "final")
    assert calls == [
        ("fsync", tmp_path.name),
        ("syncfs", "staged"),
        ("rename", "final"),
        ("fsync", "a"),
        ("fsync", tmp_path.name),
    ]
    assert (tmp_path / "a/final/x").read_bytes() == b"x"


@pytest.mark.parametrize("in_the_way", ["folder", "file"])
def test_a_published_folder_never_replaces(tmp_path, in_the_way):
    staged, final = tmp_path / "staged", tmp_path / "final"
    staged.mkdir()
    (staged / "x").write_bytes(b"new")
    if in_the_way == "file":
        final.write_bytes(b"old")
    else:
        final.mkdir()
        (final / "y").write_bytes(b"old")
    with pytest.raises(KeyExists, match="final exists already"):
        files.publish_folder(staged, final)
    assert (staged / "x").read_bytes() == b"new"
    assert not (final / "x").exists()


def test_sync_filesystem_works_on_a_real_folder(tmp_path):
    files.sync_filesystem(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.sync_filesystem(tmp_path / "missing")


def test_folders_cannot_be_made_below_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(NotWritable, match="a/b"):
        files.make_folders(tmp_path / "a" / "b" / "c")


def test_folders_may_be_there_already(tmp_path):
    for _ in range(2):
        files.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a/b").is_dir()


def space(monkeypatch, **state: int) -> None:
    full = {"f_bavail": 1000, "f_frsize": 4096, "f_files": 1000, "f_favail": 500} | state
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**full))


def test_room_is_checked_to_the_byte_and_inode(tmp_path, monkeypatch):
    space(monkeypatch)
    files.check_space(tmp_path / "not" / "made" / "yet", 4_096_000, 500)
    with pytest.raises(NotEnoughSpace, match=r"too full: expected 4\.1 MB free, found 4\.1 MB"):
        files.check_space(tmp_path, 4_096_001)
    with pytest.raises(NotEnoughSpace, match="too few inodes: expected 501 free, found 500"):
        files.check_space(tmp_path, 0, 501)


def test_a_file_system_without_fixed_inodes_has_enough_of_them(tmp_path, monkeypatch):
    space(monkeypatch, f_files=0, f_favail=0)
    files.check_space(tmp_path, 0, 10**6)


def test_real_room_is_found(tmp_path):
    files.check_space(tmp_path, 1, 1)
    with pytest.raises(NotEnoughSpace):
        files.check_space(tmp_path, 1 << 60)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (errno.ENOSPC, NotEnoughSpace, "disk is full"),
        (errno.EDQUOT, NotEnoughSpace, "disk is full"),
        (errno.EACCES, NotWritable, "Permission denied"),
        (errno.EROFS, NotWritable, "Read-only file system"),
        (errno.EIO, NotWritable, "input/output errors"),
    ],
)
def test_trouble_with_the_disk_is_typed_and_names_the_place(code, kind, text):
    with pytest.raises(kind, match=text) as caught, files.typed_os_errors("the data folder"):
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith("the data folder")
    with pytest.raises(kind) as caught, files.typed_os_errors("the data folder"):
        raise OSError(code, os.strerror(code), "from", None, "to")
    assert str(caught.value).startswith("to ")


def test_other_errors_pass_untouched():
    with pytest.raises(FileNotFoundError), files.typed_os_errors("x"):
        raise FileNotFoundError(errno.ENOENT, "gone", "x")
    with pytest.raises(KeyError), files.typed_os_errors("x"):
        raise KeyError("x")


def test_a_full_device_is_a_typed_error():
    with (
        pytest.raises(NotEnoughSpace, match="disk is full"),
        files.typed_os_errors("/dev/full"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")


@given(data=st.binary(max_size=200), chunk=st.integers(1, 64))
def test_a_file_is_hashed_in_one_read_whatever_the_chunk(tmp_path_factory, data, chunk):
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK_BYTES", chunk)
        assert files.hash_file(path, "md5", "sha256") == {
            "md5": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_a_digest_depends_on_the_value_and_not_on_its_order(value):
    turned = dict(reversed(value.items()))
    assert files.digest_of(value) == files.digest_of(turned)
    assert json.loads(files.canonical_json(value)) == value
    assert json.loads(files.pretty_json(value)) == value
    assert files.digest_of(value) != files.digest_of([value])


def test_digests_do_not_drift():
    # Receipts of older runs are found by this digest.
    assert files.canonical_json({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'.encode()
    assert files.digest_of({}) == hashlib.sha256(b"{}").hexdigest()


def test_json_for_people_keeps_its_order():
    assert files.pretty_json({"b": 1, "a": "ü"}).decode() == '{\n  "b": 1,\n  "a": "ü"\n}\n'


def test_only_newer_schemas_are_refused():
    files.check_schema("x.json", 1, 1)
    files.check_schema("x.json", 0, 1)
    with pytest.raises(SchemaTooNew, match=r"x\.json .*expected schema 1 or older, found 2"):
        files.check_schema("x.json", 2, 1)


@pytest.mark.parametrize(
    "code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL, errno.EXDEV]
)
def test_a_file_system_that_cannot_share_blocks_is_told_apart(tmp_path, monkeypatch, code):
    monkeypatch.setattr(files.fcntl, "ioctl", refusing(code))
    with (tmp_path / "a").open("wb") as target, (tmp_path / "a").open("rb") as source:
        assert not files.clone_file(source.fileno(), target.fileno())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_other_trouble_with_sharing_blocks_is_an_error(tmp_path, monkeypatch, code):
    monkeypatch.setattr(files.fcntl, "ioctl", refusing(code))
    with (
        (tmp_path / "a").open("wb") as target,
        (tmp_path / "a").open("rb") as source,
        pytest.raises(OSError) as caught,
    ):
        files.clone_file(source.fileno(), target.fileno())
    assert caught.value.errno == code


def refusing(code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    return refuse


def test_blocks_are_all_shared_or_none(tmp_path):
    """Asked for real: where the file system says no, the target stays empty."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 8192)
    with source.open("rb") as one, target.open("wb") as other:
        done = files.clone_file(one.fileno(), other.fileno())
    assert target.read_bytes() == (b"x" * 8192 if done else b"")
