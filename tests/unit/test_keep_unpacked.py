"""What becomes of a tar that was unpacked from a fetched or given gzip file, once it was used."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.fault_server import FaultServer
from tests.support.winter21 import (
    FACTS,
    count_as_large,
    packed_sample,
    sha256_of,
    tars_of,
    winter21_build,
)

from imagenet_etl.build import Build
from imagenet_etl.download import release
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.release import is_released, release_archive
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.stage import archives_there, archives_unchanged
from imagenet_etl.errors import LeaseLost
from imagenet_etl.pipeline import run_stage
from imagenet_etl.receipts import Receipt

QUICK = Patience(budget_s=5.0, base_s=0.001)


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    count_as_large(monkeypatch)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return packed_sample(tmp_path / "mine")


@pytest.fixture
def server(archive: Path) -> Iterator[FaultServer]:
    with FaultServer(archive.read_bytes()) as running:
        yield running


@dataclass
class Used:
    """A data folder whose archive was fetched or given, and unpacked."""

    data: Path
    source: str

    def build(self, run: str = "run-1") -> Build:
        return winter21_build(self.data, self.source, run)

    def downloaded(self) -> Receipt:
        return run_stage(self.build(), "download").receipt

    @property
    def packed(self) -> list[Path]:
        return sorted((self.data / "archives").rglob(FACTS.name))


@pytest.fixture(params=["fetched", "given"])
def used(
    request: pytest.FixtureRequest, tmp_path: Path, archive: Path, server: FaultServer
) -> Used:
    digest = sha256_of(archive.read_bytes())
    source = f"{server.url}#sha256={digest}" if request.param == "fetched" else str(archive)
    return Used(tmp_path / "data", source)


def test_letting_go_deletes_the_tar_and_what_was_fetched(used: Used, archive: Path) -> None:
    receipt = used.downloaded()
    build = used.build()
    sizes = [path.stat().st_size for path in (*tars_of(used.data), *used.packed)]
    assert release_archive(build, FACTS) == sum(sizes)
    assert tars_of(used.data) == used.packed == []
    assert archive.exists()
    assert archives_unchanged(build, receipt)
    assert not archives_there(build, receipt)
    assert not upstream_changed(build, FACTS)


def test_what_was_let_go_stays_noted(used: Used) -> None:
    used.downloaded()
    build = used.build()
    before = noted(build, FACTS)
    assert before is not None
    release_archive(build, FACTS)
    assert noted(build, FACTS) is None
    assert is_released(build.storage, before.archive, before.sha256)
    assert not is_released(build.storage, before.archive, "0" * 64)
    assert release_archive(build, FACTS) == 0
    assert is_released(build.storage, before.archive, before.sha256)


def test_an_archive_that_was_let_go_is_had_again(used: Used, server: FaultServer) -> None:
    used.downloaded()
    first = noted(used.build(), FACTS)
    release_archive(used.build(), FACTS)
    note, count = verified_archive(used.build("run-2"), FACTS, QUICK)
    assert first is not None
    assert note.sha256 == first.sha256
    assert not note.released
    assert count == (len(server.content) if server.requests else 0)
    assert len(tars_of(used.data)) == 1


def test_a_crash_between_the_note_and_the_deletion_keeps_the_tar(
    used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    used.downloaded()
    build = used.build()

    delete = build.storage.delete

    def killed(key: str) -> None:
        if key.startswith("archives/"):
            raise KeyboardInterrupt
        delete(key)

    monkeypatch.setattr(build.storage, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        release_archive(build, FACTS)
    again = used.build("run-2")
    note, count = verified_archive(again, FACTS, QUICK)
    assert (note.released, count) == (False, 0)
    tars_of(used.data)[0].unlink()
    assert not is_released(again.storage, note.archive, note.sha256)  # lost, no longer let go


def test_a_run_that_lost_the_lease_deletes_nothing(
    used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    used.downloaded()

    def lost(*_: object) -> None:
        raise LeaseLost("another run took it over")

    monkeypatch.setattr(release.leases.Lease, "check", lost)
    with pytest.raises(LeaseLost):
        release_archive(used.build(), FACTS)
    assert len(tars_of(used.data)) == 1


def test_a_tar_of_another_archive_is_kept(used: Used) -> None:
    used.downloaded()
    other = winter21_build(used.data, used.source.partition("#")[0] + "#sha256=" + "0" * 64)
    assert release_archive(other, FACTS) == 0
    assert len(tars_of(used.data)) == 1


def test_a_second_run_fetches_and_unpacks_nothing(used: Used, server: FaultServer) -> None:
    first = used.downloaded()
    requests = len(server.requests)
    assert run_stage(used.build("run-2"), "download").reused
    assert used.downloaded().digest == first.digest
    assert len(server.requests) == requests


def test_upstream_is_asked_about_the_packed_file(tmp_path: Path, server: FaultServer) -> None:
    used = Used(tmp_path / "data", server.url)
    used.downloaded()
    build = used.build()
    assert not upstream_changed(build, FACTS)
    assert len(server.heads) >= 1
    server.content = packed_sample(tmp_path / "new", {"n00000001": 4}).read_bytes()
    assert upstream_changed(build, FACTS)
    before = tars_of(used.data)[0].read_bytes()
    assert not run_stage(used.build("run-2"), "download").reused
    (tar,) = tars_of(used.data)
    assert tar.read_bytes() != before
    assert len(used.packed) == 1
