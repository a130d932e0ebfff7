"""One contract for every kind of storage."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.rclone_server import rclone_server
from tests.support.storages import KINDS, describe_new, keys, staged

from imagenet_etl.errors import ArchiveChanged, ConfigError, KeyExists
from imagenet_etl.storage import s3_writing

pytestmark = pytest.mark.usefixtures("temporary_folder")
_FOR_ALL = [*KINDS, "rclone"]
# rclone ignores If-None-Match, and keeps objects as files, of which it removes one too many.
but_rclone = pytest.mark.parametrize("description", KINDS, indirect=True)


@pytest.fixture(scope="module")
def rclone():
    with rclone_server() as server:
        yield server


@pytest.fixture(params=_FOR_ALL)
def description(request, tmp_path, moto):
    server = request.getfixturevalue("rclone") if request.param == "rclone" else moto
    return describe_new(request.param, tmp_path, server)


def test_a_missing_key_has_no_stat_and_no_content(storage):
    assert storage.stat("a/b") is None
    assert storage.read("a/b") is None
    assert storage.digest("a/b") is None
    with pytest.raises(FileNotFoundError), storage.open("a/b"):
        pass


def test_a_folder_is_no_key(storage):
    storage.put("a/b/c", b"x")
    assert storage.stat("a/b") is None
    assert storage.read("a/b") is None
    assert storage.digest("a/b") is None
    with pytest.raises(FileNotFoundError), storage.open("a/b"):
        pass


@but_rclone
def test_nothing_lies_below_a_file(storage):
    storage.put("a/b", b"x")
    assert storage.stat("a/b/c") is None
    assert storage.read("a/b/c") is None
    assert storage.digest("a/b/c") is None
    assert keys(storage, "a/b") == []
    with pytest.raises(FileNotFoundError), storage.open("a/b/c"):
        pass
    storage.delete("a/b/c")
    assert storage.read("a/b") == b"x"


def test_stat_tells_size_and_a_tag_that_stays(storage):
    storage.put("a/b", b"12345")
    stat = storage.stat("a/b")
    assert stat is not None
    assert stat.size == 5
    assert stat.tag
    assert storage.stat("a/b") == stat
    assert list(storage.list("a")) == [("a/b", stat)]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 110_000, (4 << 20) - 1, 4 << 20, 9 << 20])
def test_digest_is_that_of_the_content_whatever_its_size(storage, size):
    data = random.Random(size).randbytes(size)
    storage.put("a/b", data)
    assert storage.digest("a/b") == (size, hashlib.sha256(data).hexdigest())


def test_list_is_in_the_order_of_the_keys_texts(storage):
    # "." sorts before "/" and "0" after it, which a walk folder by folder gets wrong.
    names = ["a/b/c", "a/b.txt", "a/b0", "a/b/a", "a/B", "a/ä", "a/b-/z", "a/z/y/x"]
    for name in names:
        storage.put(name, b"")
    assert keys(storage, "a") == sorted(names)


def test_list_keeps_to_its_folder(storage):
    for name in ("a/b/x", "a/bc/x", "ab/x"):
        storage.put(name, b"")
    assert keys(storage, "a/b") == ["a/b/x"]
    assert keys(storage, "a/b/") == ["a/b/x"]
    assert keys(storage, "a/bcd") == []


def test_list_of_the_root_holds_every_key_and_nothing_unfinished(storage):
    storage.put("b/x", b"")
    storage.put("a", b"")
    staged(storage, b"unfinished")
    assert keys(storage, ".") == ["a", "b/x"]


def test_read_at_stops_at_the_end(storage):
    storage.put("a", b"0123456789")
    with storage.open("a") as file:
        assert file.stat == storage.stat("a")
        assert file.read_at(0, 10) == b"0123456789"
        assert file.read_at(3, 4) == b"3456"
        assert file.read_at(8, 100) == b"89"
        assert file.read_at(10, 1) == b""
        assert file.read_at(1000, 10) == b""
        assert file.read_at(5, 0) == b""
        file.will_need([(0, 10)])
        assert file.seek_bytes > 0


def test_an_empty_object_can_be_read(storage):
    storage.put("a", b"")
    assert storage.read("a") == b""
    with storage.open("a") as file:
        assert file.stat.size == 0
        assert file.read_at(0, 10) == b""


def test_read_at_is_safe_from_many_threads(storage):
    data = bytes(range(256)) * 8
    storage.put("a", data)
    with storage.open("a") as file, ThreadPoolExecutor(8) as executor:
        parts = list(executor.map(lambda at: file.read_at(at, 64), range(0, len(data), 64)))
    assert b"".join(parts) == data


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(offset=st.integers(0, 40), size=st.integers(0, 40), data=st.binary(max_size=32))
def test_read_at_is_a_slice(storage, offset, size, data):
    storage.put("a", data)
    with storage.open("a") as file:
        assert file.read_at(offset, size) == data[offset : offset + size]


@but_rclone
def test_create_takes_a_free_key_only(storage):
    assert storage.create("a/b", b"first")
    assert not storage.create("a/b", b"second")
    assert storage.read("a/b") == b"first"


@but_rclone
def test_one_of_many_racing_creators_wins(storage):
    for turn in range(5):
        line = threading.Barrier(8)

        def race(number, turn=turn, line=line):
            line.wait()
            return storage.create(f"race/{turn}", b"the same bytes" + bytes([number]) * (turn % 2))

        with ThreadPoolExecutor(8) as executor:
            won = list(executor.map(race, range(8)))
        assert sum(won) == 1
        winner = won.index(True)
        assert storage.read(f"race/{turn}") == b"the same bytes" + bytes([winner]) * (turn % 2)


def test_put_replaces(storage):
    storage.put("a/b", b"first")
    storage.put("a/b", b"second, longer")
    assert storage.read("a/b") == b"second, longer"
    assert keys(storage, "a") == ["a/b"]


def test_swap_stores_what_is_as_it_was_seen(storage):
    assert storage.swap("a", b"1", None)
    seen = storage.stat("a")
    assert storage.swap("a", b"two", seen)
    assert storage.read("a") == b"two"


@but_rclone
def test_swap_leaves_alone_what_somebody_else_has_written(storage):
    storage.put("a", b"1")
    seen = storage.stat("a")
    storage.put("a", b"other")
    assert not storage.swap("a", b"2", seen)
    assert not storage.swap("a", b"2", None)
    assert storage.read("a") == b"other"
    storage.delete("a")
    assert not storage.swap("a", b"2", seen)
    assert storage.read("a") is None


@but_rclone
def test_one_of_many_racing_swaps_wins(storage):
    storage.put("a", b"before")
    seen = storage.stat("a")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: storage.swap("a", b"by %d" % n, seen), range(8)))
    assert won.count(True) == 1
    assert storage.read("a") == b"by %d" % won.index(True)


def test_publish_consumes_the_local_file(storage):
    path = staged(storage, b"content")
    stat = storage.publish("a/b", path)
    assert not path.exists()
    assert storage.stat("a/b") == stat
    assert storage.read("a/b") == b"content"


def test_a_large_file_is_published_whole(storage, monkeypatch):
    monkeypatch.setattr(s3_writing, "MULTIPART_ABOVE", 5 << 20)
    monkeypatch.setattr(s3_writing, "PART_BYTES", 5 << 20)
    data = random.Random(1).randbytes((5 << 20) + 1)
    stat = storage.publish("work/a", staged(storage, data))
    assert stat == storage.stat("work/a")
    storage.put("work/mark", b"")
    storage.publish_tree("work", "done", "mark")
    assert storage.digest("done/a") == (len(data), hashlib.sha256(data).hexdigest())


@but_rclone
def test_publish_never_replaces(storage):
    storage.publish("a/b", staged(storage, b"first"))
    path = staged(storage, b"second")
    with pytest.raises(KeyExists, match="a/b"):
        storage.publish("a/b", path)
    assert path.read_bytes() == b"second"
    assert storage.read("a/b") == b"first"


def test_place_moves_and_replaces(storage):
    for data in (b"a dead predecessor's", b"mine"):
        path = staged(storage, data)
        storage.place("tree/train/n01/1.JPEG", path)
        assert not path.exists()
    storage.flush("tree")
    storage.flush("missing")
    assert storage.read("tree/train/n01/1.JPEG") == b"mine"


def test_publish_tree_moves_everything(storage):
    for name in ("manifest.json", "z/last", "a/b/c", "a/b.txt"):
        storage.put(f"work/tree/{name}", name.encode())
    storage.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(storage, "work/tree") == []
    found = {key: storage.read(key) for key in keys(storage, "datasets/v1")}
    assert found == {
        f"datasets/v1/{name}": name.encode()
        for name in ("a/b.txt", "a/b/c", "manifest.json", "z/last")
    }


def test_publish_tree_refuses_a_target_that_is_there(storage):
    storage.put("work/tree/manifest.json", b"new")
    storage.put("work/tree/a", b"new")
    storage.put("datasets/v1/manifest.json", b"old")
    with pytest.raises(KeyExists, match="datasets/v1"):
        storage.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(storage, "datasets") == ["datasets/v1/manifest.json"]
    assert storage.read("datasets/v1/manifest.json") == b"old"
    assert keys(storage, "work/tree") == ["work/tree/a", "work/tree/manifest.json"]


def test_publish_tree_refuses_a_target_that_is_a_file(storage):
    storage.put("work/tree/manifest.json", b"new")
    storage.put("datasets/v1", b"a file")
    with pytest.raises(KeyExists, match="datasets/v1"):
        storage.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert storage.read("datasets/v1") == b"a file"


def test_publish_tree_wants_a_mark(storage):
    storage.put("work/tree/a", b"")
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        storage.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(storage, "datasets") == []


def test_delete_removes_a_key_a_tree_and_nothing_else(storage):
    for name in ("a/b/x", "a/b/y/z", "a/bc", "a/c"):
        storage.put(name, b"")
    storage.delete("a/c")
    assert keys(storage, "a") == ["a/b/x", "a/b/y/z", "a/bc"]
    storage.delete("a/b")
    assert keys(storage, "a") == ["a/bc"]
    storage.delete("a/b")
    storage.delete("never/was")


def test_remove_removes_a_key_and_nothing_else(storage):
    for name in ("a/b", "a/bc", "ab"):
        storage.put(name, b"")
    storage.remove("a/b")
    storage.remove("a/b")
    storage.remove("a/b/never")
    assert keys(storage, ".") == ["a/bc", "ab"]


def test_racing_deletes_of_one_tree_all_succeed(storage):
    for number in range(20):
        storage.put(f"a/{number // 5}/{number}", b"")
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: storage.delete("a"), range(4)))
    assert keys(storage, "a") == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "..", "a/../../b", "a/..", "a\0b", ".", "./"])
def test_a_key_that_leaves_the_root_is_refused(storage, key):
    path = staged(storage, b"x")
    calls = [
        lambda: storage.stat(key),
        lambda: storage.read(key),
        lambda: storage.open(key).__enter__(),
        lambda: storage.create(key, b""),
        lambda: storage.put(key, b""),
        lambda: storage.publish(key, path),
        lambda: storage.place(key, path),
        lambda: storage.delete(key),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="storage key"):
            call()
    assert path.exists()


def test_needless_dots_and_slashes_lead_to_the_same_key(storage):
    storage.put("./a//b/./c", b"x")
    assert keys(storage, ".") == ["a/b/c"]
    assert storage.read("a/b/c") == b"x"


def test_an_object_replaced_while_open_is_noticed(storage):
    storage.put("a", b"old content")
    with storage.open("a") as file:
        assert file.current_stat() == file.stat
        storage.put("a", b"new content!")
        assert file.current_stat() != file.stat
        with contextlib.suppress(ArchiveChanged):  # a bucket refuses, a folder has the old file
            assert file.read_at(0, 11) == b"old content"
        storage.delete("a")
        assert file.current_stat() is None


def test_spans_asked_for_are_read_right_whatever_is_read(storage):
    data = random.Random(2).randbytes(300_000)
    storage.put("a", data)
    with storage.open("a") as file:
        file.will_need([(0, 1_000), (1_100, 50_000), (200_000, 99_000), (299_990, 100)])
        for offset, size in [(200_000, 99_000), (500, 3_000), (1_100, 50_000), (0, 1_000),
                             (150_000, 150_000), (299_990, 100)]:  # fmt: skip
            assert file.read_at(offset, size) == data[offset : offset + size]
