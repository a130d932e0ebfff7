"""Faults 21 and 24: runs that meet, and runs that die, as real processes of the command line."""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import children

from imagenet_etl.verify import verify_folder

ARCHIVE = "tiny-imagenet-200.zip"
DEATH_DEADLINE_S = 5.0
TERMINAL = 1


class ArchiveServer:
    """Serves one archive, and lets every download wait until the gate is open."""

    def __init__(self, archive: Path) -> None:
        self.gate = threading.Event()
        self.asked = threading.Event()
        self.downloads = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.downloads += 1
                body = archive.read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "application/zip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                outer.asked.set()
                outer.gate.wait(60)
                try:
                    self.wfile.write(body)
                except ConnectionError:
                    return  # the downloader was killed

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/{ARCHIVE}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class Run:
    """A real ``python -m imagenet_etl`` whose messages are read as they come."""

    def __init__(
        self, data: Path, source: object, version: str, *more: str, command: str = "prepare"
    ) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "imagenet_etl", command, "tiny_imagenet",
                "--data-dir", str(data), "--source", f"{ARCHIVE}={source}", "--expect", "any",
                "--version", version, "--workers", "1", *more,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=children.environment(NO_PROXY="127.0.0.1"),
        )  # fmt: skip
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said += line

    def exit_code(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[int]:
        """Return the process ids of its pack workers."""
        try:
            of_threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            pids = [int(pid) for path in of_threads for pid in path.read_text().split()]
        except OSError:
            return []
        return [pid for pid in pids if b"pack_worker" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def running(*args: object, command: str = "prepare") -> Iterator[Run]:
    run = Run(*args, command=command)  # type: ignore[arg-type]
    try:
        yield run
    finally:
        run.kill()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / ARCHIVE
    subprocess.run(
        [
            sys.executable, "-m", "imagenet_etl", "sample", "tiny_imagenet", "--out", str(path),
            "--classes", "4", "--train", "100", "--val", "10", "--test", "2",
        ],
        check=True, env=children.environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return path


@pytest.fixture
def server(archive):
    server = ArchiveServer(archive)
    yield server
    server.close()


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def published(data: Path, version: str) -> dict[str, bytes]:
    """Return every file of a version by its name."""
    folder = data / "datasets" / "tiny_imagenet" / version
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def staging(data: Path) -> list[Path]:
    folder = data / ".staging"
    return list(folder.iterdir()) if folder.exists() else []


def test_fault_24_the_second_run_of_a_version_is_refused(server, data):
    with running(data, server.url, "v1") as first:
        assert server.asked.wait(30), first.said
        # The first run holds the lock, and cannot go on; that it is stopped does not make it dead.
        first.process.send_signal(signal.SIGSTOP)
        with running(data, server.url, "v1") as second:
            assert second.exit_code() == TERMINAL
        assert "AlreadyRunning" in second.said
        assert "v1" in second.said
        assert f"process {first.process.pid}" in second.said
        assert "Traceback" not in second.said
        first.process.send_signal(signal.SIGCONT)
        server.gate.set()
        assert first.exit_code() == 0, first.said
    assert server.downloads == 1
    verify_folder(data / "datasets/tiny_imagenet/v1")
    assert staging(data) == []


def test_fault_24_runs_of_two_versions_at_once_both_succeed(server, data):
    with running(data, server.url, "v1") as first, running(data, server.url, "v2") as second:
        waits = "waiting for it"
        assert children.wait_until(lambda: waits in first.said + second.said, 30), (
            first.said + second.said
        )
        assert server.asked.wait(30)
        server.gate.set()
        assert first.exit_code() == 0, first.said
        assert second.exit_code() == 0, second.said
    assert server.downloads == 1
    for version in ("v1", "v2"):
        verify_folder(data / "datasets/tiny_imagenet" / version)
    one, two = published(data, "v1"), published(data, "v2")
    assert one.keys() == two.keys()
    shards = [name for name in one if name.endswith((".rec", ".idx", ".lst"))]
    assert shards
    assert all(one[name] == two[name] for name in shards)
    registry = (data / "datasets/tiny_imagenet/registry.json").read_text()
    assert '"v1"' in registry
    assert '"v2"' in registry
    assert staging(data) == []


def test_fault_24_the_lock_of_a_killed_run_is_taken_over_at_once(server, data):
    with running(data, server.url, "v1") as first:
        assert server.asked.wait(30), first.said
        first.kill()
        server.gate.set()
        with running(data, server.url, "v1") as second:
            assert second.exit_code() == 0, second.said
    assert "waiting" not in second.said
    verify_folder(data / "datasets/tiny_imagenet/v1")
    assert staging(data) == []


def test_fault_24_a_command_that_fails_leaves_the_lock_to_its_sibling_and_no_longer(server, data):
    array = ("--run", "job-7")
    with running(data, server.url, "v1", *array) as first:
        assert server.asked.wait(30), first.said
        with running(data, server.url, "v1", *array, command="verify") as second:
            assert second.exit_code() == TERMINAL
        assert "StageNotDone" in second.said
        with running(data, server.url, "v1") as other:
            assert other.exit_code() == TERMINAL
        assert f"built by run 'cli-job-7' (process {first.process.pid} on" in other.said
        first.kill()
        server.gate.set()
        with running(data, server.url, "v1") as other:
            assert other.exit_code() == 0, other.said
    verify_folder(data / "datasets/tiny_imagenet/v1")


def test_fault_24_a_command_that_fails_alone_frees_what_its_run_had_parked(archive, data):
    array = ("--run", "job-7")
    with running(data, archive, "v1", *array, command="download") as first:
        assert first.exit_code() == 0, first.said
    with running(data, archive, "v1") as other:
        assert other.exit_code() == TERMINAL
    assert "between two tasks" in other.said
    with running(data, archive, "v1", *array, command="pack") as failed:
        assert failed.exit_code() == TERMINAL
    with running(data, archive, "v1") as other:
        assert other.exit_code() == 0, other.said


def test_fault_21_a_killed_parent_leaves_no_workers_and_its_staging_is_swept(
    archive, data, tmp_path
):
    more = ("--resize", "short_edge:48", "--shards", "2", "--workers", "2")
    with running(data, archive, "v1", *more) as first:
        assert children.wait_until(
            lambda: first.workers() or first.process.poll() is not None, 60
        ), first.said
        workers = first.workers()
        first.kill()
        start = time.monotonic()
        assert workers, f"the run ended before it was seen to pack: {first.said}"
        assert children.wait_until(
            lambda: not any(children.is_running(pid) for pid in workers), DEATH_DEADLINE_S
        )
        assert time.monotonic() - start < DEATH_DEADLINE_S
    assert staging(data)
    assert published(data, "v1") == {}
    with running(data, archive, "v1", *more) as second:
        assert second.exit_code() == 0, second.said
    assert staging(data) == []
    with running(tmp_path / "undisturbed", archive, "v1", *more) as other:
        assert other.exit_code() == 0, other.said
    assert published(data, "v1") == published(tmp_path / "undisturbed", "v1") != {}
    verify_folder(data / "datasets/tiny_imagenet/v1")
