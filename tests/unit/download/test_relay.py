"""With a data folder in a bucket, archives from elsewhere are fetched straight into it."""

import gzip
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.s3 import models as moto_models
from tests.support.downloads import (
    CONTENT,
    FACTS,
    OTHER,
    SHA256,
    Run,
    append,
    archive_bytes,
    makes_way,
)
from tests.support.fault_proxy import fault_proxy
from tests.support.fault_server import Answer, FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import back_up_archive, place_of
from tests.unit.download.bucket_runs import (
    PART,
    bucket_build,
    content_at,
    got,
    keys_below,
    sha256_of,
)

from imagenet_etl.download import bucket_copy, part_object, relay
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.descriptor import Fenced
from imagenet_etl.download.in_bucket import too_large_to_unpack
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.notes import read_note
from imagenet_etl.download.part_object import PartObject
from imagenet_etl.download.release import release_archive
from imagenet_etl.errors import BadArchive, ChecksumMismatch, CloudUnavailable, ConfigError

KEY = f"archives/tiny_imagenet/{SHA256[:12]}/{FACTS.name}"
LARGE = archive_bytes(5, size=8 * PART + 777)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture(autouse=True)
def client(
    moto: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Let small parts pass, and see that no disk is written."""
    monkeypatch.setattr(moto_models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(part_object, "LEAST_PART", PART)
    monkeypatch.setattr(part_object, "UNKNOWN_PART", PART)
    empty = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    for name in ("sets", "backups"):
        moto.bucket(name)
    client = moto.client("s3")
    yield client
    left = [*(Path(at) / name for at, _, names in os.walk(empty) for name in names)]
    assert [path for path in left if path.stat().st_size > 1000] == []
    uploads = client.list_multipart_uploads(Bucket="sets").get("Uploads", [])
    assert uploads == []


def of(server: FaultServer, sha256: str = SHA256) -> str:
    return f"{server.url}#sha256={sha256}"


def test_it_has_the_note_of_a_file_and_nothing_else_is_left(
    moto: MotoServer, server: FaultServer, tmp_path: Path
) -> None:
    build = bucket_build(moto, of(server))
    note, fetched = got(build)
    on_disk, _ = Run(tmp_path / "data")(server.url)
    assert replace(note, archive=on_disk.archive) == on_disk
    assert (note.archive.location, note.archive.kind) == (KEY, on_disk.archive.kind)
    assert (fetched, content_at(build, note)) == (len(CONTENT), CONTENT)
    assert keys_below(build, "archives") == [KEY, f"{KEY}.receipt.json"]
    assert got(build) == (note, 0)
    assert noted(build, FACTS) == note


def test_several_streams_bring_parts_in_any_order(moto: MotoServer, server: FaultServer) -> None:
    server.content = LARGE
    server.always = Answer(pause_s=0.002)
    build = bucket_build(moto, of(server, sha256_of(LARGE)), connections=4)
    note, fetched = got(build)
    assert content_at(build, note) == LARGE
    assert fetched == len(LARGE)
    assert server.most_at_once > 1


def test_a_server_without_ranges_and_length_is_streamed_in_one_go(
    moto: MotoServer, server: FaultServer
) -> None:
    headers: dict[str, str | None] = {"ETag": None, "Last-Modified": None}
    server.always = Answer(chunked=True, ignore_range=True, headers=headers)
    build = bucket_build(moto, of(server))
    note, _ = got(build)
    assert (note.validator, content_at(build, note)) == ("", CONTENT)
    assert len(server.requests) == 1


def test_a_slice_ends_and_the_next_goes_on(moto: MotoServer, server: FaultServer) -> None:
    server.always = Answer(pause_s=0.02)
    build = bucket_build(moto, of(server), connections=1)
    makes_way(lambda: got(build, 0.3))
    assert keys_below(build, "archives") == [f"{KEY}.part.journal"]
    server.always = Answer()
    note, fetched = got(build)
    assert content_at(build, note) == CONTENT
    assert fetched == len(CONTENT)


def test_wrong_content_gets_one_clean_retry(moto: MotoServer, server: FaultServer) -> None:
    server.script = [Answer(body=OTHER)]
    build = bucket_build(moto, of(server), connections=1)
    note, fetched = got(build)
    assert content_at(build, note) == CONTENT
    assert fetched == len(OTHER) + len(CONTENT)


def test_a_wrong_digest_leaves_nothing(moto: MotoServer, server: FaultServer) -> None:
    build = bucket_build(moto, of(server, sha256_of(OTHER)), connections=1)
    with pytest.raises(ChecksumMismatch):
        got(build)
    assert keys_below(build, "archives") == []
    assert len(server.requests) == 2


def test_what_has_changed_upstream_replaces_it(moto: MotoServer, server: FaultServer) -> None:
    build = bucket_build(moto, server.url)
    first, _ = got(build)
    server.content = OTHER
    assert upstream_changed(build, FACTS)
    second, _ = got(build)
    assert (second.sha256, second.archive.location) == (sha256_of(OTHER), first.archive.location)
    assert content_at(build, second) == OTHER


def test_a_new_date_of_the_same_content_changes_nothing(
    moto: MotoServer, server: FaultServer
) -> None:
    build = bucket_build(moto, server.url)
    first, _ = got(build)
    server.head = server.always = Answer(headers={"ETag": '"new"'})
    second, _ = got(build)
    assert second == replace(first, validator='"new"')
    assert not upstream_changed(build, FACTS)


def test_it_is_let_go_after_use_and_comes_again(moto: MotoServer, server: FaultServer) -> None:
    build = bucket_build(moto, of(server))
    note, _ = got(build)
    assert release_archive(build, FACTS) == len(CONTENT)
    assert noted(build, FACTS) is None
    assert noted(build, FACTS, released_ok=True) == replace(note, released=True)
    assert got(build)[1] == len(CONTENT)


def test_what_the_backup_has_is_used_there(
    moto: MotoServer, server: FaultServer, client: Any
) -> None:
    back_up_archive(client, CONTENT, "/nfs/a.zip")
    build = bucket_build(moto, of(server), s3_uri="s3://backups/sets")
    note, fetched = got(build)
    assert note.archive.location == place_of().uri(place_of().archive(FACTS.name, SHA256))
    assert (note.sha256, fetched, server.requests) == (SHA256, 0, [])
    client.put_object(Bucket="backups", Key=place_of().archive(FACTS.name, SHA256), Body=OTHER)
    note, fetched = got(build)
    assert (note.archive.location, fetched) == (KEY, len(CONTENT))


def test_the_tar_of_a_large_gzip_is_used_in_the_backup(
    moto: MotoServer, client: Any, server: FaultServer
) -> None:
    tar = b"\0" * 10240
    digests = {"sha256": sha256_of(tar), "packed_sha256": "a" * 64, "packed_md5": "b" * 32}
    name = "w.tar.gz"
    back_up_archive(client, tar, "", name=name, digests=digests, kind="tar")
    facts = replace(FACTS, name=name, kind="tar.gz", url=server.url, md5="b" * 32, size=99)
    build = bucket_build(moto, s3_uri="s3://backups/sets", expect="published")
    note, _ = verified_archive(build, facts)
    assert (note.digests, note.archive.kind) == (digests, "tar")
    assert verified_archive(build, facts)[0] == noted(build, facts) == note
    assert release_archive(build, facts) == 0
    assert server.requests == []


def test_a_gzip_that_could_not_be_unpacked_is_refused_before_it_is_fetched(
    moto: MotoServer, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MAX_PACKED_BYTES", PART)
    server.content = gzip.compress(CONTENT)
    facts = replace(FACTS, name="w.tar.gz", kind="tar.gz")
    with pytest.raises(BadArchive, match="no disk to unpack it to"):
        verified_archive(bucket_build(moto), facts, source=server.url)
    assert "gunzip" in str(too_large_to_unpack("w.tar.gz", "s3://b/w.tar.gz", 1))


@pytest.mark.parametrize("content", [CONTENT, OTHER])
def test_an_object_of_that_name_is_taken_over_only_if_it_is_the_archive(
    moto: MotoServer, server: FaultServer, client: Any, content: bytes
) -> None:
    client.put_object(Bucket="sets", Key=f"lab/data/{KEY}", Body=content)
    build = bucket_build(moto, of(server))
    if content == OTHER:
        with pytest.raises(ChecksumMismatch):
            got(build)
    else:
        note, fetched = got(build)
        assert (note.sha256, fetched, note.is_ours) == (SHA256, 0, False)
        assert release_archive(build, FACTS) == 0
    assert server.requests == []


def test_what_nothing_proves_is_not_replaced(
    moto: MotoServer, server: FaultServer, client: Any
) -> None:
    build = bucket_build(moto, server.url)
    note, _ = got(build)
    build.storage.delete(f"{note.archive.location}.receipt.json")
    with pytest.raises(ConfigError, match="nothing proves"):
        got(build)


def test_a_copy_too_large_for_one_call_is_made_in_parts(
    moto: MotoServer, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_copy, "AT_ONCE_BYTES", 100)
    monkeypatch.setattr(bucket_copy, "PART_BYTES", 1 << 20)
    build = bucket_build(moto, of(server))
    assert content_at(build, got(build)[0]) == CONTENT
    assert keys_below(build, "archives") == [KEY, f"{KEY}.receipt.json"]


def test_an_upload_that_somebody_aborts_is_begun_anew_by_the_next_run(
    moto: MotoServer, server: FaultServer
) -> None:
    with fault_proxy(moto.url) as proxy:
        proxy.answer("UploadPart", status=404, code="NoSuchUpload", skip=3)
        build = bucket_build(proxy, of(server), connections=1)
        with pytest.raises(CloudUnavailable, match="the upload or a part of it is gone"):
            got(build)
        note, fetched = got(build)
    assert content_at(build, note) == CONTENT
    assert fetched == len(CONTENT) + 4 * PART


def test_a_crash_between_name_and_note_costs_no_byte(
    moto: MotoServer, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    build = bucket_build(moto, server.url)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(relay, "write_note", crash)
        got(build)
    note, fetched = got(build)
    assert (note.sha256, fetched, note.is_ours) == (SHA256, 0, True)
    assert read_note(build.storage, f"{note.archive.location}.receipt.json") == note
    assert not any(key.endswith((".part", ".journal")) for key in keys_below(build, "archives"))


def test_a_part_that_comes_late_is_no_part_of_what_was_begun_anew(moto: MotoServer) -> None:
    storage = bucket_build(moto).storage
    with (
        fault_proxy(moto.url) as proxy,
        PartObject(storage, proxy.client("s3"), KEY, lambda: None) as part,
    ):
        part.start(RemoteFile("u", '"1"', 2 * PART))
        late = part.take()
        assert late is not None
        part.write(late, memoryview(OTHER)[: PART - 1])
        aborted = part._staged.upload
        part.start(RemoteFile("u", '"2"', 2 * PART))
        with pytest.raises(Fenced):
            part.write(late, memoryview(OTHER)[:1])
        proxy.answer("UploadPart", status=404, code="NoSuchUpload")
        with pytest.raises(Fenced):
            part._send(late, aborted, bytearray(OTHER[:PART]))
        append(part, CONTENT[: 2 * PART])
        assert part.is_complete
        assert part.digests(("sha256",)) == {"sha256": sha256_of(CONTENT[: 2 * PART])}
        part.forget()
