"""One contract for every kind of storage, and what only a folder or only a bucket must do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import children
from tests.support.moto_server import MotoServer, moto_server
from tests.support.storages import KINDS, describe_new, opened

from imagenet_etl.errors import (
    ArchiveChanged,
    CloudNotFound,
    CloudUnavailable,
    ConfigError,
    KeyExists,
    NotWritable,
)
from imagenet_etl.processes import this_process
from imagenet_etl.storage import LocalStorage, Storage
from imagenet_etl.storage import s3 as s3_module
from imagenet_etl.storage.s3 import S3Storage


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Keep the staging of buckets, here and in child processes, out of the machine's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="module")
def moto():
    with moto_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def storage(request, tmp_path, moto):
    with opened(describe_new(request.param, tmp_path, moto)) as storage:
        yield storage


@pytest.fixture
def folder(tmp_path):
    storage = LocalStorage(tmp_path / "data")
    yield storage
    storage.close_staging()


@pytest.fixture
def bucket(tmp_path, moto):
    with opened(describe_new("bucket", tmp_path, moto)) as storage:
        assert isinstance(storage, S3Storage)
        yield storage


def staged(storage: Storage, data: bytes, name: str = "finished") -> Path:
    path = storage.staging() / name
    path.write_bytes(data)
    return path


def keys(storage: Storage, prefix: str) -> list[str]:
    return [key for key, _ in storage.list(prefix)]


# --- the contract


def test_a_missing_key_has_no_stat_and_no_content(storage):
    assert storage.stat("a/b") is None
    assert storage.read("a/b") is None
    with pytest.raises(FileNotFoundError), storage.open("a/b"):
        pass


def test_a_folder_is_no_key(storage):
    storage.put("a/b/c", b"x")
    assert storage.stat("a/b") is None
    assert storage.read("a/b") is None
    with pytest.raises(FileNotFoundError), storage.open("a/b"):
        pass


def test_nothing_lies_below_a_file(storage):
    storage.put("a/b", b"x")
    assert storage.stat("a/b/c") is None
    assert storage.read("a/b/c") is None
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
        file.will_need(0, 10)


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


def test_create_takes_a_free_key_only(storage):
    assert storage.create("a/b", b"first")
    assert not storage.create("a/b", b"second")
    assert storage.read("a/b") == b"first"


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


def test_publish_consumes_the_local_file(storage):
    path = staged(storage, b"content")
    stat = storage.publish("a/b", path)
    assert not path.exists()
    assert storage.stat("a/b") == stat
    assert storage.read("a/b") == b"content"


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


def test_staging_is_one_folder_until_it_is_closed(storage):
    with ThreadPoolExecutor(8) as executor:
        folders = set(executor.map(lambda _: storage.staging(), range(8)))
    assert len(folders) == 1
    path = staged(storage, b"left over")
    storage.keep_staging_alive()
    storage.close_staging()
    assert not path.parent.exists()
    assert storage.staging() != path.parent


def test_a_storage_that_never_staged_has_nothing_to_close(storage):
    storage.keep_staging_alive()
    storage.close_staging()
    assert storage.sweep_staging() == 0


STAGE_AND_WAIT = """
    import sys
    from tests.support.storages import open_described
    storage = open_described(sys.argv[1])
    folder = storage.staging()
    (folder / "half").write_bytes(b"x" * 100)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_staging_of_the_dead_is_swept_and_of_the_living_kept(kind, tmp_path, moto):
    description = describe_new(kind, tmp_path, moto)
    with (
        opened(description) as storage,
        children.python(STAGE_AND_WAIT, description) as first,
        children.python(STAGE_AND_WAIT, description) as second,
    ):
        mine, dead, alive = (
            storage.staging(),
            Path(children.told(first)),
            Path(children.told(second)),
        )
        assert storage.sweep_staging() == 0
        first.kill()
        first.wait()
        assert storage.sweep_staging() == 1
        assert not dead.exists()
        assert (alive / "half").exists()
        assert mine.exists()


# --- folders only


def test_staging_of_a_living_process_here_is_kept_however_old(folder):
    with children.python(STAGE_AND_WAIT, folder.url) as child:
        staging = Path(children.told(child))
        os.utime(staging, (0, 0))
        assert folder.sweep_staging() == 0
        assert staging.exists()


def test_staging_of_another_host_is_judged_by_its_age(folder):
    owner = this_process().to_dict() | {"host": "elsewhere"}
    staging = folder.root / ".staging" / "elsewhere-1"
    staging.mkdir(parents=True)
    (staging / "owner.json").write_text(json.dumps(owner))
    assert folder.sweep_staging() == 0
    os.utime(staging, (time.time() - 3700,) * 2)
    assert folder.sweep_staging() == 1
    assert not staging.exists()


@pytest.mark.parametrize("owner", [None, "", '{"pid": 1', '{"pid": 1}'])
def test_staging_whose_owner_died_before_it_said_who_it_is_goes_when_old(folder, owner):
    staging = folder.root / ".staging" / "half-made"
    staging.mkdir(parents=True)
    if owner is not None:
        (staging / "owner.json").write_text(owner)
    assert folder.sweep_staging() == 0
    os.utime(staging, (time.time() - 3700,) * 2)
    assert folder.sweep_staging() == 1


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


# --- buckets only


def test_a_bucket_has_no_local_path(bucket):
    assert bucket.local_path("a") is None


def test_a_bucket_refuses_to_read_on_in_a_replaced_object(bucket):
    bucket.put("a", b"old")
    with bucket.open("a") as file:
        bucket.put("a", b"new")
        with pytest.raises(ArchiveChanged, match="/a was replaced"):
            file.read_at(0, 3)
        bucket.delete("a")
        with pytest.raises(ArchiveChanged, match="removed"):
            file.read_at(0, 3)


class _Wrapped:
    """A client with one method replaced."""

    def __init__(self, client: Any, **methods: Any) -> None:
        self._client = client
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_put_whose_reply_was_lost_counts_as_made(bucket, moto):
    client = moto.client("s3")

    def repeat(**request: Any) -> Any:
        client.put_object(**request)
        request["Body"].seek(0)
        return client.put_object(**request)  # the SDK's own retry

    retrying = S3Storage(_Wrapped(client, put_object=repeat), bucket.url)
    assert retrying.create("a", b"x")
    assert not retrying.create("a", b"x")
    retrying.publish("b", staged(retrying, b"y"))
    assert bucket.read("b") == b"y"
    retrying.close_staging()


def test_a_conflicting_write_is_tried_again(bucket, moto, monkeypatch):
    from botocore.exceptions import ClientError

    monkeypatch.setattr(s3_module, "_PAUSE_S", 0.0)
    client, left = moto.client("s3"), [2]

    def conflict(**request: Any) -> Any:
        if left[0]:
            left[0] -= 1
            request["Body"].read()
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return client.put_object(**request)

    storage = S3Storage(_Wrapped(client, put_object=conflict), bucket.url)
    assert storage.create("a", b"whole")
    assert bucket.read("a") == b"whole"
    left[0] = 1000
    with pytest.raises(CloudUnavailable, match="/b is being written"):
        storage.create("b", b"x")


def test_a_tree_whose_mover_died_is_moved_again(bucket, moto):
    for name in ("manifest.json", "a", "b"):
        bucket.put(f"work/tree/{name}", name.encode())
    client = moto.client("s3")

    def die(origin: Any, target_bucket: str, key: str) -> None:
        if key.endswith("/b"):
            raise KeyboardInterrupt
        client.copy(origin, target_bucket, key)

    dying = S3Storage(_Wrapped(client, copy=die), bucket.url)
    with pytest.raises(KeyboardInterrupt):
        dying.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(bucket, "datasets") == ["datasets/v1/a"]
    bucket.put("datasets/v1/stale", b"")
    bucket.publish_tree("work/tree", "datasets/v1", "manifest.json")
    assert keys(bucket, "datasets/v1") == [
        f"datasets/v1/{name}" for name in ("a", "b", "manifest.json")
    ]


def test_the_mark_of_a_tree_appears_last(bucket, moto):
    for name in ("a.json", "b", "c"):  # the mark comes first in order
        bucket.put(f"work/tree/{name}", b"")
    client, seen = moto.client("s3"), []

    def look(origin: Any, target_bucket: str, key: str) -> None:
        seen.append(bucket.stat("datasets/v1/a.json"))
        client.copy(origin, target_bucket, key)

    S3Storage(_Wrapped(client, copy=look), bucket.url).publish_tree(
        "work/tree", "datasets/v1", "a.json"
    )
    assert seen == [None, None]
    assert bucket.stat("datasets/v1/a.json") is not None


def test_a_missing_bucket_is_named(moto):
    storage = S3Storage(moto.client("s3"), "s3://never-made/prefix")
    with pytest.raises(CloudNotFound, match="never-made"):
        storage.put("a", b"")
    with pytest.raises(CloudNotFound, match="never-made"):
        list(storage.list("a"))


def test_a_server_that_is_gone_is_a_transient_error(tmp_path):
    gone = MotoServer("http://127.0.0.1:9").client(
        "s3", retries={"max_attempts": 0}, connect_timeout=2
    )
    storage = S3Storage(gone, "s3://bucket")
    for call in (
        lambda: storage.stat("a"),
        lambda: storage.read("a"),
        lambda: storage.put("a", b""),
    ):
        with pytest.raises(CloudUnavailable, match="s3://bucket"):
            call()


def test_an_answer_cut_off_while_an_object_is_read_is_a_transient_error(bucket, moto):
    from botocore.exceptions import ResponseStreamingError

    class Body:
        def read(self) -> bytes:
            raise ResponseStreamingError(error="cut off")

    bucket.put("a", b"x")
    cut = _Wrapped(moto.client("s3"), get_object=lambda **_: {"Body": Body()})
    with S3Storage(cut, bucket.url).open("a") as file, pytest.raises(CloudUnavailable):
        file.read_at(0, 1)


def test_a_bucket_without_a_prefix_works_alike(moto):
    storage = S3Storage(moto.client("s3"), moto.bucket("no-prefix"))
    storage.put("a/b", b"x")
    assert keys(storage, "a") == keys(storage, ".") == ["a/b"]
    storage.delete("a")
    assert keys(storage, ".") == []
