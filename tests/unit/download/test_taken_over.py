"""Whoever wakes up after a successor took over leaves alone what that one has made."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from moto.s3 import models as moto_models
from tests.support.downloads import CONTENT, FACTS, OTHER, Run, append, quick
from tests.support.fault_proxy import fault_proxy
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.unit.download.bucket_runs import (
    PART,
    bucket_build,
    content_at,
    keys_below,
    sha256_of,
)

from imagenet_etl import leases
from imagenet_etl.build import Build
from imagenet_etl.download import alone, bucket_copy, fetched, part_object, relay
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.part_object import PartObject
from imagenet_etl.errors import CloudUnavailable, LeaseLost

KEY = "archives/tiny_imagenet/0/a.zip"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def bucket(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> MotoServer:
    monkeypatch.setattr(moto_models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(part_object, "LEAST_PART", PART)
    moto.bucket("sets")
    return moto


def replaced_upstream(build: Build, server: FaultServer) -> Build:
    """Return the build once it has the archive that the server no longer serves."""
    verified_archive(build, FACTS, quick())
    server.content = OTHER
    return build


def overtaken(build: Build, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Run a download whose second try does all of it just before the first removes the old one."""

    def later(*what: object) -> None:
        monkeypatch.setattr(module, "remove_replaced", alone.remove_replaced)
        second = replace(build, owner=replace(build.owner, attempt=2))
        note, _ = verified_archive(second, FACTS, quick())
        assert content_at(second, note) == OTHER
        alone.remove_replaced(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "remove_replaced", later)
    with pytest.raises(LeaseLost):
        verified_archive(build, FACTS, quick())
    note, count = verified_archive(replace(build, owner=leases.Owner("r")), FACTS, quick())
    assert (content_at(build, note), count) == (OTHER, 0)


def test_what_it_has_published_into_a_bucket(
    bucket: MotoServer, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken(replaced_upstream(bucket_build(bucket, server.url), server), monkeypatch, relay)


def test_what_it_has_published_on_a_disk(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Run(tmp_path / "data").build(server.url)
    overtaken(replaced_upstream(build, server), monkeypatch, fetched)


def test_what_it_has_finished_where_both_found_a_checked_file_without_its_name(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    build = replaced_upstream(Run(tmp_path / "data").build(server.url), server)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetched, "remove_replaced", crash)
        verified_archive(build, FACTS, quick())
    overtaken(build, monkeypatch, fetched)


def test_another_archive_than_the_old_one_is_never_removed(bucket: MotoServer) -> None:
    build = bucket_build(bucket)
    storage, lock = build.storage, alone.lock_key(build, "a")
    lease = leases.acquire(storage, lock, build.owner)
    storage.put(KEY, b"old")
    old = storage.stat(KEY)
    storage.put(KEY, b"new")
    alone.remove_replaced(storage, lease, KEY, old)
    alone.remove_replaced(storage, lease, KEY, None)
    assert storage.read(KEY) == b"new"
    alone.remove_replaced(storage, lease, KEY, storage.stat(KEY))
    assert storage.stat(KEY) is None


def lose_on_sending(part: PartObject) -> None:
    append(part, OTHER[: 2 * PART])


def lose_on_completing(part: PartObject) -> None:
    append(part, OTHER[: 3 * PART])
    part.digests()


@pytest.mark.parametrize(
    ("action", "lose"),
    [("UploadPart", lose_on_sending), ("CompleteMultipartUpload", lose_on_completing)],
)
def test_its_journal_though_the_upload_of_before_is_gone(
    bucket: MotoServer, action: str, lose: Callable[[PartObject], None]
) -> None:
    trouble: list[LeaseLost] = []

    def check() -> None:
        if trouble and action in proxy.calls:
            raise trouble[0]

    storage = bucket_build(bucket).storage
    with (
        fault_proxy(bucket.url) as proxy,
        PartObject(storage, proxy.client("s3"), KEY, check) as part,
    ):
        part.start(RemoteFile("u", '"1"', 3 * PART))
        journal = storage.read(f"{KEY}.part.journal")
        proxy.answer(action, status=404, code="NoSuchUpload")
        trouble.append(LeaseLost("taken over"))
        with pytest.raises(LeaseLost):
            lose(part)
    assert storage.read(f"{KEY}.part.journal") == journal


@pytest.mark.parametrize("is_there", [True, False])
def test_a_copy_whose_upload_is_gone_is_there_or_comes_again(
    bucket: MotoServer, server: FaultServer, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    monkeypatch.setattr(bucket_copy, "AT_ONCE_BYTES", 100)
    with fault_proxy(bucket.url) as proxy:
        build = bucket_build(proxy, f"{server.url}#sha256={sha256_of(CONTENT)}", connections=1)
        if is_there:
            proxy.drop_reply("CompleteMultipartUpload", skip=1)
        else:
            proxy.answer("CompleteMultipartUpload", skip=1, status=404, code="NoSuchUpload")
            with pytest.raises(CloudUnavailable, match="the upload of its copy is gone"):
                verified_archive(build, FACTS, quick())
        note, _ = verified_archive(build, FACTS, quick())
    assert content_at(build, note) == CONTENT
    assert keys_below(build, "archives") == [
        note.archive.location, f"{note.archive.location}.receipt.json",
    ]  # fmt: skip
    assert len(server.requests) == 1
