"""Archives come from the disk, else from the backup, else from their publisher."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.downloads import CONTENT, FACTS, MIB, OTHER, SHA256, Run, append, quick
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.fault_server import FaultServer
from tests.support.moto_server import MotoServer
from tests.support.restores import (
    OLD,
    asks,
    back_up_archive,
    content_of,
    got,
    place_of,
    proven,
)

from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.asked import asked_for
from imagenet_etl.download.journal import RemoteFile
from imagenet_etl.download.notes import note_key_of, read_note
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.release import release_archive
from imagenet_etl.errors import AccessDenied, SourceUnavailable


@pytest.fixture
def publisher() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def client(moto: MotoServer) -> Any:
    moto.bucket("backups")
    return moto.client("s3")


@pytest.fixture
def proxy(moto: MotoServer, client: Any) -> Iterator[FaultProxy]:
    with fault_proxy(moto.url) as proxy:
        yield proxy


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "data")


def test_a_fresh_data_folder_never_asks_the_publisher(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, CONTENT, "/somewhere/else.zip")
    note, count = verified_archive(asks(run, proven(publisher), moto.client), FACTS, quick())
    run.assert_complete()
    assert (count, publisher.requests) == (len(CONTENT), [])
    assert note.is_ours


def test_what_is_on_disk_is_asked_of_nobody(
    run: Run, publisher: FaultServer, proxy: FaultProxy, client: Any
) -> None:
    back_up_archive(client, CONTENT, "")
    got(asks(run, proven(publisher), proxy.client))
    before = list(proxy.calls)
    build = asks(run, proven(publisher), proxy.client)
    assert got(build) == noted(build, FACTS)
    assert (proxy.calls, publisher.requests) == (before, [])


def test_the_note_is_that_of_a_download_but_for_what_upstream_told(
    tmp_path: Path, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    plain = Run(tmp_path / "plain").build(proven(publisher))
    first = got(plain)
    back_up_archive(client, CONTENT, publisher.url)
    second = got(asks(Run(tmp_path / "data"), proven(publisher), moto.client))
    tag, validator = first.archive.tag, first.validator
    assert replace(second, archive=replace(second.archive, tag=tag), validator=validator) == first


def test_an_empty_backup_leaves_it_to_the_publisher(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert publisher.requests


def test_a_backup_that_is_not_wanted_is_not_asked(run: Run, publisher: FaultServer) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("it was asked")

    got(asks(run, proven(publisher), none, from_backup=False))
    run.assert_complete()


def test_an_archive_without_its_mark_is_no_backup(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    mark = back_up_archive(client, CONTENT, "")
    key = place_of().archive_mark(FACTS.name, mark.sha256)
    client.delete_object(Bucket="backups", Key=key)
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert publisher.requests


def test_a_source_with_a_query_is_never_known_to_be_the_same(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    url = f"{publisher.url}?id=a"
    back_up_archive(client, OTHER, f"{publisher.url}?id=***")
    build = asks(run, url, moto.client)
    assert content_of(build, got(build)) == CONTENT


def test_an_object_that_is_not_as_marked_leads_to_the_publisher(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, caplog: Any
) -> None:
    mark = back_up_archive(client, CONTENT, publisher.url)
    key = place_of().archive(FACTS.name, mark.sha256)
    client.put_object(Bucket="backups", Key=key, Body=OTHER)
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert not run.aside.exists()
    told = [r for r in caplog.records if "cannot be had from the backup" in r.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING]


def test_an_archived_object_leads_to_the_publisher_and_the_warning_says_how_to_restore_it(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, caplog: Any
) -> None:
    mark = back_up_archive(client, CONTENT, publisher.url)
    key = place_of().archive(FACTS.name, mark.sha256)
    client.put_object(Bucket="backups", Key=key, Body=CONTENT, StorageClass="GLACIER")
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert publisher.requests
    (told,) = [r for r in caplog.records if "cannot be had from the backup" in r.getMessage()]
    assert told.levelno == logging.WARNING
    assert key in told.getMessage() and "aws s3api restore-object" in told.getMessage()


def test_a_damaged_mark_leads_to_the_publisher(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, caplog: Any
) -> None:
    key = place_of().archive_mark(FACTS.name, SHA256)
    client.put_object(Bucket="backups", Key=key, Body=b"{")
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert "no commit mark of an archive" in caplog.text


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket"), (503, "SlowDown")]
)
def test_a_backup_that_cannot_be_asked_is_told_and_passed_over(
    run: Run, publisher: FaultServer, proxy: FaultProxy, caplog: Any, status: int, code: str
) -> None:
    proxy.answer("ListObjectsV2", status=status, code=code, times=20)

    def aws(service: str, **_: object) -> Any:
        return proxy.client(service, retries={"max_attempts": 1})

    got(asks(run, proven(publisher), aws))
    run.assert_complete()
    assert code in caplog.text


def test_what_has_begun_to_come_is_gone_on_with(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, CONTENT, publisher.url)
    ranges = []

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def get_object(self, **request: Any) -> Any:
            if "Range" in request:
                ranges.append(request["Range"])
                if len(ranges) > 1:
                    request["Key"] = "gone"
                    raise_busy()
                request["Range"] = f"bytes=0-{2 * MIB + 5}"
            return client.get_object(**request)

    def raise_busy() -> None:
        from botocore.exceptions import ConnectionClosedError

        raise ConnectionClosedError(endpoint_url="x")

    build = asks(run, proven(publisher), lambda *_, **__: Dying(), connections=1)
    patience = replace(quick(), budget_s=0.2, first_budget_s=0.2)
    with pytest.raises(SourceUnavailable):
        verified_archive(build, FACTS, patience)
    got(asks(run, proven(publisher), Recorder(client, ranges).make, connections=1))
    run.assert_complete()
    assert ranges[-1] == f"bytes={2 * MIB}-"
    assert publisher.requests == []


class Recorder:
    def __init__(self, client: Any, ranges: list[str]) -> None:
        self.client, self.ranges = client, ranges

    def make(self, *_: object, **__: object) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_object(self, **request: Any) -> Any:
        self.ranges.extend([request["Range"]] if "Range" in request else [])
        return self.client.get_object(**request)


def test_a_released_archive_comes_back_from_the_backup(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    build = asks(run, proven(publisher), moto.client)
    got(build)
    asked = len(publisher.requests)
    back_up_archive(client, CONTENT, publisher.url)
    assert release_archive(build, FACTS) == len(CONTENT)
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert len(publisher.requests) == asked


def test_an_old_archive_from_the_backup_is_replaced_when_upstream_has_another(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any
) -> None:
    back_up_archive(client, OLD, publisher.url)
    build = asks(run, publisher.url, moto.client)
    assert content_of(build, got(build)) == OLD
    assert publisher.requests == []
    assert upstream_changed(build, FACTS)
    assert content_of(build, got(build)) == CONTENT
    assert not upstream_changed(build, FACTS)


def test_an_archive_of_upstreams_length_is_kept(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, caplog: Any
) -> None:
    back_up_archive(client, CONTENT, publisher.url)
    build = asks(run, publisher.url, moto.client)
    got(build)
    assert not upstream_changed(build, FACTS)
    assert "cannot be told" not in caplog.text


def test_a_path_is_used_in_place_whatever_the_backup_holds(tmp_path: Path, run: Run) -> None:
    given = tmp_path / FACTS.name
    given.write_bytes(CONTENT)

    def none(*_: object, **__: object) -> None:
        raise AssertionError("it was asked")

    note = got(asks(run, str(given), none))
    assert note.archive.location == str(given)


def test_no_secret_of_a_source_is_told(
    run: Run, publisher: FaultServer, proxy: FaultProxy, caplog: Any
) -> None:
    proxy.answer("ListObjectsV2", status=403, code="AccessDenied", times=9)
    url = publisher.url.replace("http://", "http://user:CANARY7f3e@") + f"#sha256={SHA256}"
    build = asks(run, url, proxy.client)
    got(build)
    asked = asked_for(build, FACTS)
    assert read_note(build.storage, note_key_of(asked.key)) is not None
    assert "AccessDenied" in caplog.text
    assert "CANARY7f3e" not in caplog.text


def test_denied_and_nobody_else_to_ask_is_an_error(
    run: Run, publisher: FaultServer, proxy: FaultProxy
) -> None:
    proxy.answer("ListObjectsV2", status=403, code="AccessDenied", times=9)
    facts = replace(FACTS, url="")
    build = asks(run, publisher.url, proxy.client, sources={})
    with pytest.raises(AccessDenied):
        verified_archive(build, facts, quick())


@pytest.mark.parametrize(("mib", "goes_on"), [(1, False), (2, True)])
def test_what_the_publisher_has_mostly_sent_comes_from_there(
    run: Run, publisher: FaultServer, moto: MotoServer, client: Any, mib: int, goes_on: bool
) -> None:
    back_up_archive(client, CONTENT, publisher.url)
    with PartFile(run.part) as part:
        part.start(RemoteFile(publisher.url, '"1"', len(CONTENT)))
        append(part, CONTENT[: mib * MIB])
    got(asks(run, proven(publisher), moto.client))
    run.assert_complete()
    assert bool(publisher.requests) == goes_on
