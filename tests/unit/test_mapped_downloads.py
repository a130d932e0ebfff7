"""Tasks of one run that each see to an archive of their own, at the same time."""

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.builds import no_aws
from tests.support.fault_server import Answer, FaultServer
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL

from imagenet_etl import leases, mapped, pipeline
from imagenet_etl.build import Build, new_build
from imagenet_etl.config import Settings
from imagenet_etl.download import alone
from imagenet_etl.download.alone import lock_key
from imagenet_etl.download.notes import Note
from imagenet_etl.download.sources import Source
from imagenet_etl.errors import NothingToDo
from imagenet_etl.files import hash_file
from imagenet_etl.leases import Owner
from imagenet_etl.receipts import Receipt

ARCHIVES = (TRAIN, VAL, DEVKIT)


def packed(name: str, text: str) -> bytes:
    """Return an archive of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if name.endswith("gz") else "w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@dataclass
class Site:
    """A publisher of three archives, and the data folder that they are fetched to."""

    data: Path
    servers: dict[str, FaultServer]

    def build(self, task: str = "", run: str = "run-1") -> Build:
        sources = {name: server.url for name, server in self.servers.items()}
        settings = Settings("ilsvrc2012", str(self.data), sources=sources, expect="any")
        return new_build(settings, Owner(run, f"download[{task}]"), no_aws)

    def task(self, archive: str, run: str = "run-1") -> None:
        """Do what the task of one archive does."""
        with self.build(archive, run).locked(hand_on=True) as build:
            try:
                mapped.run_download_of(build, archive)
            except NothingToDo:
                assert self.receipt() is not None

    def tasks(self, run: str = "run-1") -> None:
        for archive in ARCHIVES:
            self.task(archive, run)
        with self.build(run=run).locked():
            pass  # the run ends

    def change(self, archive: str) -> None:
        self.servers[archive].content = packed(archive, "changed")

    def receipt(self) -> Receipt | None:
        return pipeline.find_receipt(self.build(), "download")

    def assert_done(self) -> None:
        """The stage is done with what lies on the disk."""
        receipt = self.receipt()
        assert receipt is not None
        noted = {output.name: output.sha256 for output in receipt.outputs}
        files = {
            path.name: path for path in self.data.glob("archives/*/*/*") if path.suffix != ".json"
        }
        assert noted == {name: hash_file(files[name], "sha256")["sha256"] for name in ARCHIVES}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(alone, "_WAIT_FOR_OTHER_S", 0.0)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(FaultServer(packed(name, name), f"/{name}"))
            for name in ARCHIVES
        }
        yield Site(tmp_path / "data", servers)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(len(ARCHIVES)) as threads:
        yield threads


def stalled(site: Site, archive: str, pool: ThreadPoolExecutor, run: str) -> Future[None]:
    """Start an archive's task; it is in the middle of fetching until the server is resumed."""
    server = site.servers[archive]
    server.script = [Answer(stall_at=600)]
    seen = len(server.requests)
    task = pool.submit(site.task, archive, run)
    deadline = time.monotonic() + 20
    while len(server.requests) == seen:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return task


def test_the_last_task_completes_the_stage(site: Site) -> None:
    site.task(VAL)
    site.task(TRAIN)
    assert site.receipt() is None
    site.task(DEVKIT)
    site.assert_done()


def test_rerun_finds_nothing_to_do(site: Site) -> None:
    site.tasks()
    with site.build("0", "run-2").locked() as build, pytest.raises(NothingToDo):
        mapped.run_download_of(build, VAL)


def test_nobody_waits_for_the_archive_that_a_sibling_is_fetching(
    site: Site, pool: ThreadPoolExecutor
) -> None:
    site.tasks()
    before = site.receipt()
    site.change(VAL)
    task = stalled(site, VAL, pool, "run-2")
    site.task(TRAIN, "run-2")
    site.task(DEVKIT, "run-2")
    assert not task.done()
    assert site.receipt() == before
    site.servers[VAL].resumed.set()
    task.result(20)
    assert site.receipt() != before
    site.assert_done()


def test_changed_archive_whose_task_has_not_begun_is_left_to_it(site: Site) -> None:
    site.tasks()
    before = site.receipt()
    site.change(VAL)
    site.task(TRAIN, "run-2")
    assert len(site.servers[VAL].requests) == 1
    assert site.receipt() == before
    site.task(VAL, "run-2")
    site.assert_done()


def test_archive_that_changes_once_its_task_is_over_keeps_nobody_from_completing(
    site: Site, pool: ThreadPoolExecutor
) -> None:
    task = stalled(site, TRAIN, pool, "run-1")
    site.task(VAL)
    site.task(DEVKIT)
    assert site.receipt() is None
    site.change(VAL)
    site.servers[TRAIN].resumed.set()
    task.result(20)
    site.assert_done()
    assert len(site.servers[VAL].requests) == 1


def test_archive_that_another_run_holds_is_not_waited_for(site: Site) -> None:
    site.task(VAL)
    site.task(DEVKIT)
    other = site.build(run="elsewhere")
    leases.acquire(other.storage, lock_key(other, VAL), other.owner)
    site.task(TRAIN)
    site.assert_done()


def test_receipt_that_came_after_a_siblings_newer_one_is_made_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.tasks()
    settled: Callable[[Build, Source], Note | None] = mapped.settled
    late = [VAL]

    def overtaken(build: Build, source: Source) -> Note | None:
        note = settled(build, source)
        if source.archive.name == DEVKIT and late:
            site.change(late[0])
            site.task(late.pop(), "run-2")
        return note

    monkeypatch.setattr(mapped, "settled", overtaken)
    for path in site.data.glob("work/ilsvrc2012/download/*/receipt.json"):
        path.unlink()
    site.task(TRAIN, "run-2")
    assert late == []
    site.assert_done()


@pytest.mark.parametrize("attempt", range(8))
def test_tasks_that_end_at_once_do_not_leave_the_stage_to_each_other(
    site: Site, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    together = threading.Barrier(len(ARCHIVES))
    verify = mapped.verified_archive

    def in_step(*args: object, **kwargs: object) -> object:
        together.wait(20)
        return verify(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(mapped, "verified_archive", in_step)
    for task in [pool.submit(site.task, archive) for archive in ARCHIVES]:
        task.result(20)
    site.assert_done()
