"""Of the archives of one name that the backup holds, the one that is asked for is taken."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import CONTENT, FACTS, OTHER, Run, quick
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import (
    BACKUP,
    OLD,
    asks,
    back_up_archive,
    content_of,
    got,
    proven,
    sha256_of,
)

from imagenet_etl.download.archive import upstream_changed, verified_archive


@pytest.fixture
def publisher() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def client(moto: MotoServer) -> Any:
    moto.bucket("backups")
    return moto.client("s3")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data")


def test_without_a_digest_only_the_same_source_will_do(
    tmp_path: Path, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, OTHER, "http://elsewhere/archive")
    build = asks(Run(tmp_path / "one"), publisher.url, moto.client)
    assert content_of(build, got(build)) == CONTENT
    back_up_archive(client, OLD, publisher.url)
    build = asks(Run(tmp_path / "two"), publisher.url, moto.client)
    assert content_of(build, got(build)) == OLD


def test_a_digest_that_the_marks_deny_is_the_publishers(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    back_up_archive(client, OTHER, publisher.url)
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert (
        f"1 in {BACKUP}/tiny_imagenet/archives/{FACTS.name}/ passed over, of another digest"
        in caplog.text
    )


@pytest.mark.parametrize("first", [CONTENT, OTHER])
def test_a_sample_of_the_same_name_hides_nothing(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, first: bytes
) -> None:
    for content in (first, CONTENT, OTHER):
        back_up_archive(client, content, publisher.url)
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert publisher.requests == []


def test_a_mark_that_tells_no_md5_stands_behind_one_that_does(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    # Of the same second the one with the greater digest counts as the newer.
    told, untold = sorted((CONTENT, OTHER), key=sha256_of)
    back_up_archive(client, told, "")
    back_up_archive(client, untold, "", digests={"sha256": sha256_of(untold)})
    build = asks(run, publisher.url, moto.client, expect="published")
    facts = replace(FACTS, size=None, md5=hashlib.md5(told).hexdigest())
    verified_archive(build, facts, quick())
    assert publisher.requests == []


def test_of_several_from_the_same_source_the_newest_is_taken(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    # Of the same second the one with the greater digest counts as the newer.
    old, new = sorted((OTHER, OLD), key=sha256_of)
    back_up_archive(client, old, publisher.url)
    back_up_archive(client, new, publisher.url)
    back_up_archive(client, CONTENT, "http://elsewhere/archive")
    build = asks(run, publisher.url, moto.client)
    assert content_of(build, got(build)) == new


def test_what_only_the_backup_has_is_not_replaced_by_what_it_gets_later(
    run: Run, moto: MotoServer, client: Any, caplog: Any
) -> None:
    facts = replace(FACTS, url="")
    build = asks(run, "/unused", moto.client, sources={})
    for content in (OTHER, CONTENT):
        back_up_archive(client, content, "/nfs/archive.zip")
        note, _ = verified_archive(build, facts, quick())
        assert content_of(build, note) == OTHER
    assert not upstream_changed(build, facts)
    assert "cannot be told" not in caplog.text
