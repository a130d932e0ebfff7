"""kill -9 in the middle of download, index and pack of one build of full ImageNet."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.children import environment, wait_until
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.download.journal import journal_of, read_journal
from imagenet_etl.samples import build_imagenet_full

SIZES = [150] * 12
NAME = "fall11_whole.tar"
OPTIONS = ["--expect", "any", "--val-images-per-class", "10", "--min-images-per-class", "100",
           "--resize", "short_edge:260", "--upscale", "--shards", "20", "--workers", "2",
           "--version", "v1"]  # fmt: skip

# Parts of an index end after few images, and each is followed by a moment to be killed in.
SLOWLY = """
import sys, time
from imagenet_etl import index_parts
from imagenet_etl.archives import nested
from imagenet_etl.cli import main

index_parts.PART_ROWS = nested.BATCH_MEMBERS = 200
make = index_parts.IndexParts._make

def make_and_pause(*args):
    make(*args)
    time.sleep(0.3)

index_parts.IndexParts._make = make_and_pause
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / NAME
    build_imagenet_full(path, None, SIZES, edge=200)
    data = path.read_bytes()
    path.unlink()
    return data


def start(url: str, data_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOWLY, "prepare", "imagenet_fall11", "--data-dir",
               str(data_dir), "--source", f"{NAME}={url}", *OPTIONS]  # fmt: skip
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str], moment: Callable[[], bool]) -> None:
    assert wait_until(moment, 60)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.kill()
    process.communicate()


@pytest.mark.timeout(180)
def test_three_kills_cost_little_and_change_no_byte(content: bytes, tmp_path: Path) -> None:
    with FaultServer(content, f"/{NAME}") as server:
        server.always = Answer(pause_s=0.02)
        data = tmp_path / "data"

        def pieces() -> int:
            journals = map(read_journal, map(journal_of, data.glob(f"archives/*/*/{NAME}.part")))
            return sum(len(journal.proven) for journal in journals if journal)

        killed(start(server.url, data), lambda: pieces() >= 3)
        kept_pieces = pieces()

        server.always, server.requests = Answer(), []
        parts = "work/imagenet_fall11/untar/*/parts/*/[0-9]*.json"
        killed(start(server.url, data), lambda: len(list(data.glob(parts))) >= 2)
        sent = sum(request.sent for request in server.requests)
        assert sent <= len(content) - kept_pieces * (1 << 20) + (1 << 20)
        kept_parts = list(data.glob(parts))

        server.requests = []
        segments = "work/imagenet_fall11/pack/*/segments/*.json"
        killed(start(server.url, data), lambda: len(list(data.glob(segments))) >= 4)
        assert sum(request.sent for request in server.requests) == 0
        kept = {path: path.stat().st_mtime_ns for path in data.glob(segments)}

        process = start(server.url, data)
        times: dict[Path, int] = {}

        def verified() -> bool:
            with suppress(FileNotFoundError):  # verify removes them
                for path in data.glob(segments):
                    times.setdefault(path, path.stat().st_mtime_ns)
            return process.poll() is not None

        assert wait_until(verified, 60)
        _, printed = process.communicate()
        assert process.returncode == 0, printed
        assert {path: times[path] for path in kept} == kept, (
            "finished segments are not packed again"
        )

        undisturbed = start(server.url, tmp_path / "undisturbed")
        _, printed = undisturbed.communicate(timeout=100)
        assert undisturbed.returncode == 0, printed
        assert len(kept_parts) >= 2

    found, expected = (
        files_below(folder / "datasets/imagenet_fall11/v1")
        for folder in (data, tmp_path / "undisturbed")
    )
    assert found == expected
    manifest = json.loads(found["manifest.json"])
    assert manifest["counts"]["packed"] == sum(SIZES)
