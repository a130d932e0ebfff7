"""Downloads and kill -9, two runs at once and a full disk.

Each test runs the real stage against a real server that misbehaves, and ends in one of two states:
the archive with its receipt, or nothing under the final name.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.downloads import CONTENT, CUT, FACTS, MIB, SHA256, Run, archive_bytes, ranges
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.files import digest_of
from imagenet_etl.pipeline import run_stage
from imagenet_etl.progress import Meter


def start_download(run: Run, url: str, version: str = "v1") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imagenet_etl", "download", "tiny_imagenet"]
    command += ["--data-dir", str(run.data), "--expect", "any", "--version", version]
    command += ["--source", f"{FACTS.name}={url}#sha256={SHA256}"]
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root / "include")}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError("nothing happened within 30 s")


def test_killed_process_is_resumed_by_the_next_with_fewer_bytes_than_the_whole(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(stall_at=2 * MIB + 99)]
    first = start_download(run, server.url)
    wait_until(lambda: run.part.exists() and run.part.stat().st_size == 2 * MIB + 99, first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    first.communicate()
    run.assert_nothing()
    second = start_download(run, server.url)
    told = second.communicate(timeout=60)[1]
    assert second.returncode == 0, told
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={2 * MIB}-"]
    assert server.requests[1].sent == len(CONTENT) - 2 * MIB


@pytest.mark.parametrize("size", [2 * MIB, 3 * MIB + 777], ids=["whole pieces", "odd size"])
def test_process_that_died_before_publishing_a_complete_part_is_finished(
    server: FaultServer, run: Run, size: int
) -> None:
    server.content = archive_bytes(4, size)
    sha256 = hashlib.sha256(server.content).hexdigest()
    run.place = sha256[:12]
    with PartFile(run.part) as part:
        wanted = Wanted(FACTS.name, server.url, "zip")
        fetch(Job(wanted, part, Patience(budget_s=5.0)), Meter("a", 0, "B"))
    run(server.url, sha256=sha256)
    run.assert_complete(server.content)
    assert len(server.requests) == 1


def test_process_that_died_around_publishing_leaves_nothing_that_needs_a_person(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a digest nothing but the receipt can prove the archive, so both come or neither."""
    build = run.build(server.url)
    run.place = digest_of(server.url)[:12]

    def killed(key: str, path: Path) -> None:
        raise KeyboardInterrupt

    publish = build.storage.publish
    monkeypatch.setattr(build.storage, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        verified_archive(build, FACTS)
    assert not run.final.exists()

    def killed_after(key: str, path: Path) -> None:
        publish(key, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(build.storage, "publish", killed_after)
    with pytest.raises(KeyboardInterrupt):
        verified_archive(build, FACTS)
    requests = len(server.requests)
    _, fetched = verified_archive(run.build(server.url), FACTS)
    assert fetched == 0
    assert len(server.requests) == requests
    assert run.final.read_bytes() == CONTENT


def test_two_runs_at_once_fetch_an_archive_only_once(server: FaultServer, run: Run) -> None:
    server.always = Answer(stall_at=CUT)
    first = start_download(run, server.url, "v1")
    wait_until(lambda: server.sent == CUT, first)
    second = start_download(run, server.url, "v2")
    assert second.stderr is not None
    assert any("another run is at work on" in line for line in second.stderr)
    server.resumed.set()
    told = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    run.assert_complete()
    assert len(server.requests) == 1
    assert server.sent == len(CONTENT)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("answer", [Answer(), Answer(chunked=True)], ids=["known", "unknown"])
def test_full_disk_is_a_typed_error_and_the_next_run_resumes(
    server: FaultServer, small_disk: Path, answer: Answer
) -> None:
    run = Run(small_disk)
    server.always = answer
    with pytest.raises(NotEnoughSpace):
        run_stage(run.build(f"{server.url}#sha256={SHA256}"), "download")
    run.assert_nothing()
    assert server.requests[0].sent == 0 or answer.chunked or run.part.stat().st_size == 0
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    run_stage(run.build(f"{server.url}#sha256={SHA256}"), "download")
    run.assert_complete()
    assert ranges(server)[-1] == (f"bytes={MIB}-" if answer.chunked else None)
