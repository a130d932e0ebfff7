import hashlib
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl import heartbeats, leases
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.datasets.base import ArchiveFacts
from imagenet_etl.download import alone, in_place
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.stage import archives_unchanged, download
from imagenet_etl.errors import (
    ArchiveChanged,
    ChecksumMismatch,
    ConfigError,
    LeaseLost,
    SourceBusy,
    SourceNotFound,
    StillPending,
)
from imagenet_etl.files import digest_of
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage
from imagenet_etl.stage import Place

CONTENT = b"PK\x03\x04" + random.Random(9).randbytes(50_000)
CHANGED = CONTENT[:-1] + b"!"
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
FACTS = replace(facts_of("tiny_imagenet").archives[0], size=len(CONTENT), md5=MD5)
QUICK = Patience(budget_s=5.0, base_s=0.001)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(CONTENT) as running:
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "my.zip"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def final(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "archives" / "tiny_imagenet" / FACTS.name
    path.parent.mkdir(parents=True)
    return path


def sample_of(tmp_path: Path, url: str) -> Path:
    """Return where a sample from a URL is kept, out of the published archive's way."""
    folder = tmp_path / "data" / "archives" / "tiny_imagenet" / digest_of(url)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / FACTS.name


def build(tmp_path: Path, source: str, expect: str = "published", run: str = "r1") -> Build:
    settings = Settings(
        dataset="tiny_imagenet", data_dir=str(tmp_path / "data"), sources={FACTS.name: source},
        expect=expect,
    )  # fmt: skip
    return new_build(settings, Owner(run), lambda service: None)


def forbid_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(path: Path, *algorithms: str) -> dict[str, str]:
        raise AssertionError(f"{path} was hashed again")

    monkeypatch.setattr(in_place, "hash_file", hashed)


# A source on this machine.


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_local_archive_is_verified_where_it_lies(
    tmp_path: Path, archive: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, fetched = verified_archive(build(tmp_path, form.format(archive)), FACTS)
    assert fetched == 0
    assert note.archive.location == str(archive)
    assert note.digests == {"md5": MD5, "sha256": SHA256}
    assert list(archive.parent.iterdir()) == [archive]
    assert not (tmp_path / "data" / "archives").exists()
    forbid_hashing(monkeypatch)
    assert verified_archive(build(tmp_path, form.format(archive)), FACTS) == (note, 0)


def test_missing_file_is_not_found(tmp_path: Path, archive: Path) -> None:
    path = archive.parent / "missing.zip"
    with pytest.raises(SourceNotFound, match="is not a file") as caught:
        verified_archive(build(tmp_path, str(path)), FACTS)
    assert str(path) in str(caught.value)


def test_changed_archive_is_verified_anew(tmp_path: Path, archive: Path) -> None:
    here = build(tmp_path, str(archive), "any")
    verified_archive(here, FACTS)
    archive.write_bytes(CHANGED)
    os.utime(archive, ns=(1, 1))
    note, _ = verified_archive(here, FACTS)
    assert note.digests["sha256"] == hashlib.sha256(CHANGED).hexdigest()
    with pytest.raises(ChecksumMismatch):
        verified_archive(build(tmp_path, str(archive)), FACTS)


def test_wrong_md5_names_the_file_and_both_digests(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(CHANGED)
    with pytest.raises(ChecksumMismatch) as caught:
        verified_archive(build(tmp_path, str(archive)), FACTS)
    assert str(archive) in caught.value.what
    assert caught.value.expected == f"md5 {MD5}"
    assert caught.value.actual == hashlib.md5(CHANGED).hexdigest()


def test_wrong_sha256_of_the_source_is_refused(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(ChecksumMismatch, match="sha256"):
        verified_archive(build(tmp_path, f"{archive}#sha256={'0' * 64}"), FACTS)


def test_wrong_size_is_told_without_hashing(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write_bytes(CONTENT + b"!")
    forbid_hashing(monkeypatch)
    with pytest.raises(ChecksumMismatch, match="bytes"):
        verified_archive(build(tmp_path, str(archive)), FACTS)


def test_archive_that_changes_while_it_is_hashed_is_refused(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = in_place.hash_file

    def meddled(path: Path, *algorithms: str) -> dict[str, str]:
        digests = real(path, *algorithms)
        path.write_bytes(CONTENT + b"!")
        return digests

    monkeypatch.setattr(in_place, "hash_file", meddled)
    with pytest.raises(ArchiveChanged):
        verified_archive(build(tmp_path, str(archive)), FACTS)


# A source on a server.


def test_second_run_fetches_and_hashes_nothing(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, fetched = verified_archive(build(tmp_path, server.url), FACTS, QUICK)
    assert fetched == len(CONTENT)
    forbid_hashing(monkeypatch)
    assert verified_archive(build(tmp_path, server.url, run="r2"), FACTS, QUICK) == (note, 0)
    assert len(server.requests) == 1


def test_existing_file_is_adopted_when_a_digest_proves_it(
    tmp_path: Path, server: FaultServer, final: Path
) -> None:
    final.write_bytes(CONTENT)
    final.with_name(final.name + ".part").write_bytes(b"left over")
    note, fetched = verified_archive(build(tmp_path, server.url), FACTS, QUICK)
    assert (fetched, server.requests) == (0, [])
    assert note.digests["md5"] == MD5
    assert sorted(p.name for p in final.parent.iterdir()) == [
        final.name, f"{final.name}.receipt.json"
    ]  # fmt: skip


def test_existing_file_of_unknown_origin_is_left_alone(tmp_path: Path, server: FaultServer) -> None:
    final = sample_of(tmp_path, server.url)
    final.write_bytes(CONTENT)
    with pytest.raises(ConfigError, match="nothing proves") as caught:
        verified_archive(build(tmp_path, server.url, "any"), FACTS, QUICK)
    assert f"--source {FACTS.name}=" in caught.value.remedy
    assert list(final.parent.iterdir()) == [final]


def test_existing_file_with_other_content_is_left_alone(
    tmp_path: Path, server: FaultServer, final: Path
) -> None:
    final.write_bytes(CHANGED)
    with pytest.raises(ChecksumMismatch):
        verified_archive(build(tmp_path, server.url), FACTS, QUICK)
    assert final.read_bytes() == CHANGED
    assert server.requests == []


@pytest.mark.parametrize("expect", ["published", "any"])
def test_archive_with_a_new_time_is_verified_and_not_fetched_again(
    tmp_path: Path, server: FaultServer, final: Path, expect: str
) -> None:
    final = final if expect == "published" else sample_of(tmp_path, server.url)
    verified_archive(build(tmp_path, server.url, expect), FACTS, QUICK)
    os.utime(final, ns=(1, 1))
    note, fetched = verified_archive(build(tmp_path, server.url, expect), FACTS, QUICK)
    assert (fetched, note.archive.tag) == (0, "1")
    final.write_bytes(CHANGED)
    with pytest.raises(ChecksumMismatch):
        verified_archive(build(tmp_path, server.url, expect), FACTS, QUICK)


def test_sample_is_in_the_way_of_no_other_source(
    tmp_path: Path, server: FaultServer, final: Path
) -> None:
    sources = (server.url, server.url_at("localhost"), f"{server.url}#sha256={SHA256}")
    notes = [verified_archive(build(tmp_path, url, "any"), FACTS, QUICK)[0] for url in sources]
    notes.append(verified_archive(build(tmp_path, server.url), FACTS, QUICK)[0])
    assert len({note.archive.location for note in notes}) == len(server.requests) == 4
    assert final.read_bytes() == CONTENT


def test_digest_proves_an_archive_whatever_server_it_came_from(
    tmp_path: Path, server: FaultServer
) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = f"{server.url_at(host)}#sha256={SHA256}"
        verified_archive(build(tmp_path, url, "any"), FACTS, QUICK)
    assert len(server.requests) == 1


@pytest.mark.parametrize("noticed", [True, False])
def test_run_that_lost_its_lease_publishes_nothing(
    tmp_path: Path,
    server: FaultServer,
    final: Path,
    monkeypatch: pytest.MonkeyPatch,
    noticed: bool,
) -> None:
    """A process that was stopped for long wakes up while its successor is at work.

    If its heartbeat notices, it stops writing at once; if not, it still must not publish.
    """
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.01 if noticed else 3600.0)
    first = build(tmp_path, server.url)
    server.script = [Answer(stall_at=len(CONTENT) - 1)]
    newer = Owner("r1", attempt=2)  # a second try of the same run takes over at once

    class TakenOver(Patience):
        def progressed(self, at: int) -> None:
            if not server.resumed.is_set():
                key = f"{first.work}/locks/download-{FACTS.name}"
                leases.acquire(first.storage, key, newer)
                for thread in threading.enumerate() if noticed else ():
                    if thread.name == "heartbeat":
                        thread.join(10.0)
                server.resumed.set()

    with pytest.raises(LeaseLost):
        verified_archive(first, FACTS, TakenOver())
    assert not final.exists()
    assert not final.with_name(f"{final.name}.receipt.json").exists()
    part = final.with_name(f"{final.name}.part")
    assert (part.stat().st_size < len(CONTENT)) is noticed


def test_waiting_for_another_run_ends(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_WAIT_FOR_OTHER_S", 0.0)
    first = build(tmp_path, server.url, run="r1")
    leases.acquire(first.storage, f"{first.work}/locks/download-{FACTS.name}", first.owner)
    with pytest.raises(SourceBusy, match="another run is still at work on"):
        verified_archive(build(tmp_path, server.url, run="r2"), FACTS, QUICK)
    second = replace(build(tmp_path, server.url, run="r2"), slice_s=60.0)
    with pytest.raises(StillPending, match="another run is still at work on"):
        verified_archive(second, FACTS, QUICK)
    assert server.requests == []


def test_stage_tells_what_it_verified_and_fetched(tmp_path: Path, server: FaultServer) -> None:
    here = build(tmp_path, server.url, "any")
    result = download(Place(here, {}, "d", "work/d"))
    assert result.counts == {"archives": 1, "archive_bytes": len(CONTENT)}
    assert result.outputs[0].sha256 == SHA256
    assert result.facts["bytes_fetched"] == len(CONTENT)
    assert result.facts["sources"] == {FACTS.name: server.url}


def test_receipt_holds_until_an_archive_changes(tmp_path: Path, server: FaultServer) -> None:
    final = sample_of(tmp_path, server.url)
    here = build(tmp_path, server.url, "any")
    receipt = run_stage(here, "download").receipt
    assert run_stage(here, "download").reused
    os.utime(final, ns=(1, 1))
    assert not archives_unchanged(here, receipt)
    assert not run_stage(here, "download").reused
    final.unlink()
    again = run_stage(here, "download")
    assert again.receipt.facts["bytes_fetched"] == len(CONTENT)


def test_newly_demanded_digest_is_checked_in_spite_of_the_receipt(
    tmp_path: Path, server: FaultServer
) -> None:
    run_stage(build(tmp_path, server.url, "any"), "download")
    with pytest.raises(ChecksumMismatch):
        run_stage(build(tmp_path, f"{server.url}#sha256={'0' * 64}", "any"), "download")


def test_publishers_url_is_used_without_a_source(tmp_path: Path, server: FaultServer) -> None:
    facts = ArchiveFacts(name=FACTS.name, url=server.url, sha256=SHA256)
    settings = Settings(dataset="tiny_imagenet", data_dir=str(tmp_path / "data"))
    here = new_build(settings, Owner("r1"), lambda service: None)
    note, _ = verified_archive(here, facts, QUICK)
    assert (note.source, note.digests["sha256"]) == (server.url, SHA256)
