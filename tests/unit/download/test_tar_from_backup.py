"""The tar of a large gzipped archive comes from the backup alone, and stands for its archive."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import quick
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import BACKUP, back_up_archive, place_of, sha256_of
from tests.support.winter21 import (
    FACTS,
    count_as_large,
    packed_sample,
    tars_of,
    unfinished_in,
    winter21_build,
)

from imagenet_etl.aws.s3_restore_archives import newest_mark, restore_archive
from imagenet_etl.build import Build
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.asked import asked_for
from imagenet_etl.download.release import release_archive
from imagenet_etl.download.unpacked import tar_key
from imagenet_etl.errors import CloudNotFound
from imagenet_etl.pipeline import run_stage

DATASET = "imagenet_winter21"


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    count_as_large(monkeypatch)
    return packed_sample(tmp_path / "site").read_bytes()


@pytest.fixture
def publisher(packed: bytes) -> Iterator[FaultServer]:
    with FaultServer(packed) as running:
        yield running


@pytest.fixture
def client(moto: MotoServer) -> Any:
    moto.bucket("backups")
    return moto.client("s3")


def asks(data: Path, url: str, moto: MotoServer) -> Build:
    return replace(winter21_build(data, url, s3_uri=BACKUP), aws=moto.client)


def back_up(client: Any, packed: bytes, url: str) -> bytes:
    tar = gzip.decompress(packed)
    digests = {"sha256": sha256_of(tar), "packed_sha256": sha256_of(packed)}
    back_up_archive(client, tar, url, name=FACTS.name, dataset=DATASET, digests=digests, kind="tar")
    return tar


@pytest.mark.parametrize("digest", [True, False])
def test_the_tar_comes_without_its_archive(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any,
    digest: bool,
) -> None:  # fmt: skip
    tar = back_up(client, packed, publisher.url)
    url = publisher.url + (f"#sha256={sha256_of(packed)}" if digest else "")
    build = asks(tmp_path / "data", url, moto)
    note, count = verified_archive(build, FACTS, quick())
    assert [path.read_bytes() for path in tars_of(tmp_path / "data")] == [tar]
    assert (note.archive.kind, count, publisher.requests) == ("tar", len(tar), [])
    assert noted(build, FACTS) == note
    assert verified_archive(build, FACTS, quick()) == (note, 0)
    assert publisher.requests == []


def test_its_note_is_that_of_an_unpacked_download(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    url = f"{publisher.url}#sha256={sha256_of(packed)}"
    plain = verified_archive(asks(tmp_path / "plain", url, moto), FACTS, quick())[0]
    back_up(client, packed, publisher.url)
    note = verified_archive(asks(tmp_path / "data", url, moto), FACTS, quick())[0]
    assert replace(note, archive=replace(note.archive, tag=plain.archive.tag)) == plain


def test_it_is_released_and_comes_back(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    tar = back_up(client, packed, publisher.url)
    build = asks(tmp_path / "data", publisher.url, moto)
    note = verified_archive(build, FACTS, quick())[0]
    assert release_archive(build, FACTS) == len(tar)
    assert tars_of(tmp_path / "data") == []
    assert noted(build, FACTS) is None
    released = noted(build, FACTS, released_ok=True)
    assert released is not None
    assert released.digests == note.digests
    assert verified_archive(build, FACTS, quick())[1] == len(tar)
    assert not upstream_changed(build, FACTS)


def test_a_tar_of_another_archive_is_not_taken(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up(client, packed, publisher.url)
    other = packed_sample(tmp_path / "other", {"n00000007": 3}).read_bytes()
    publisher.content = other
    url = f"{publisher.url}#sha256={sha256_of(other)}"
    note = verified_archive(asks(tmp_path / "data", url, moto), FACTS, quick())[0]
    assert note.digests["packed_sha256"] == sha256_of(other)
    assert publisher.requests


def test_a_tar_that_is_not_as_marked_leads_to_the_publisher(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    tar = back_up(client, packed, publisher.url)
    key = place_of(DATASET).archive(FACTS.name, sha256_of(tar))
    client.put_object(Bucket="backups", Key=key, Body=bytes(len(tar)))
    note = verified_archive(asks(tmp_path / "data", publisher.url, moto), FACTS, quick())[0]
    assert note.digests["packed_sha256"] == sha256_of(packed)
    assert "cannot be had from the backup" in caplog.text
    assert unfinished_in(tmp_path / "data") == []


def test_the_stages_read_a_tar_that_came_alone(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    receipts = []
    for name in ("plain", "data"):
        with asks(tmp_path / name, publisher.url, moto).locked() as build:
            receipts.append([run_stage(build, stage).receipt for stage in ("download", "untar")])
            assert run_stage(build, "download").reused
        back_up(client, packed, publisher.url)
    assert [r.digest for r in receipts[0]] == [r.digest for r in receipts[1]]


def test_a_tar_that_tells_no_md5_is_not_taken_for_the_published_one(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up(client, packed, publisher.url)
    facts = replace(FACTS, url=publisher.url, md5=hashlib.md5(packed).hexdigest())
    build = asks(tmp_path / "data", publisher.url, moto)
    build = replace(build, settings=replace(build.settings, expect="published"))
    note = verified_archive(build, facts, quick())[0]
    assert note.digests["packed_md5"] == facts.md5
    assert publisher.requests


def test_a_restore_takes_the_tar_though_a_part_of_the_archive_has_come(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    tar = back_up(client, packed, publisher.url)
    build = asks(tmp_path / "data", publisher.url, moto)
    asked = asked_for(build, FACTS, publisher.url)
    part = tmp_path / "data" / f"{asked.key}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"begun")
    note, count = restore_archive(build, newest_mark(build, FACTS.name), quick())
    assert (note.digests["sha256"], count) == (sha256_of(tar), len(tar))
    assert restore_archive(build, newest_mark(build, FACTS.name), quick()) == (note, 0)
    assert publisher.requests == []


def test_a_tar_that_nothing_vouches_for_is_not_replaced(
    tmp_path: Path, packed: bytes, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up(client, packed, publisher.url)
    build = asks(tmp_path / "data", publisher.url, moto)
    path = tmp_path / "data" / tar_key(build, asked_for(build, FACTS, publisher.url))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(CloudNotFound, match="nothing vouches for"):
        restore_archive(build, newest_mark(build, FACTS.name), quick())
    assert path.read_bytes() == b"mine"
    assert publisher.requests == []
