"""Kills in the middle of a build: the next run finishes it, to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.children import environment, is_running, wait_until

from imagenet_etl.samples import SAMPLES, SampleSize

POINTS = int(os.environ.get("IMAGENET_KILL_POINTS", "3"))
"""How many random kills a test makes; ``scripts/bench kills`` makes a hundred."""

SEED = int(os.environ.get("IMAGENET_KILL_SEED", "20"))
ARCHIVE = "tiny-imagenet-200.zip"

pytestmark = pytest.mark.timeout(60 + 20 * POINTS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crash") / ARCHIVE
    SAMPLES["tiny_imagenet"](path, None, SampleSize(classes=6, train=100, val=5, test=0))
    return path


def start(archive: Path, data_dir: Path, workers: int = 2) -> subprocess.Popen[str]:
    """Start a build of a dozen segments that re-encodes every image."""
    command = [
        sys.executable, "-m", "imagenet_etl", "prepare", "tiny_imagenet",
        "--data-dir", str(data_dir), "--source", f"{ARCHIVE}={archive}", "--expect", "any",
        "--format", "recordio", "--format", "imagefolder", "--version", "v1", "--shards", "12",
        "--resize", "short_edge:160", "--upscale", "--workers", str(workers),
    ]  # fmt: skip
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    data_dir = tmp_path_factory.mktemp("undisturbed")
    finish(start(archive, data_dir, workers=1))
    return published(data_dir)


def published(data_dir: Path) -> dict[str, bytes]:
    return files_below(data_dir / "datasets/tiny_imagenet/v1")


def finished_segments(data_dir: Path) -> int:
    return len(list(data_dir.glob("work/tiny_imagenet/pack/*/segments/*.json")))


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


@pytest.mark.parametrize("point", range(POINTS))
def test_killed_worker_is_an_error_at_once_and_the_rerun_gives_the_same_bytes(
    archive: Path, undisturbed: dict[str, bytes], tmp_path: Path, point: int
) -> None:
    rng = random.Random(SEED + point)
    segments = rng.randrange(9)
    print(f"seed {SEED}, point {point}: killed once {segments} segments are finished")
    process = start(archive, tmp_path)
    assert wait_until(lambda: finished_segments(tmp_path) >= segments, 30)
    assert wait_until(lambda: len(workers_of(process)) == 2, 30)
    time.sleep(rng.random() * 0.1)
    killed_at = time.monotonic()
    os.kill(rng.choice(workers_of(process)), signal.SIGKILL)
    _, printed = process.communicate(timeout=30)
    assert time.monotonic() - killed_at < 5
    assert process.returncode == 3
    assert "WorkerDied: the worker of segment" in printed
    assert published(tmp_path) == {}
    kept = finished_segments(tmp_path)
    assert kept >= segments
    finish(start(archive, tmp_path))
    assert published(tmp_path) == undisturbed


@pytest.mark.parametrize("point", range(POINTS))
def test_killed_build_is_finished_by_the_next_run_to_the_same_bytes(
    archive: Path, undisturbed: dict[str, bytes], tmp_path: Path, point: int
) -> None:
    rng = random.Random(SEED + 1000 + point)
    segments = rng.randrange(1, 12)
    print(f"seed {SEED}, point {point}: killed once {segments} segments are finished")
    process = start(archive, tmp_path)
    assert wait_until(lambda: finished_segments(tmp_path) >= segments, 30)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert wait_until(lambda: not any(is_running(pid) for pid in workers), 5)
    assert published(tmp_path) in ({}, undisturbed)
    finish(start(archive, tmp_path))
    assert published(tmp_path) == undisturbed
    left = list((tmp_path / ".staging").iterdir())
    assert left == []


@pytest.mark.parametrize("point", range(POINTS))
def test_stopped_build_ends_cleanly_and_keeps_finished_segments(
    archive: Path, undisturbed: dict[str, bytes], tmp_path: Path, point: int
) -> None:
    rng = random.Random(SEED + 2000 + point)
    segments = rng.randrange(9)
    print(f"seed {SEED}, point {point}: stopped once {segments} segments are finished")
    process = start(archive, tmp_path)
    assert wait_until(lambda: finished_segments(tmp_path) >= segments, 30)
    assert wait_until(lambda: len(workers_of(process)) == 2, 30)
    time.sleep(rng.random() * 0.05)
    workers = workers_of(process)
    process.terminate()
    _, printed = process.communicate(timeout=5)
    assert process.returncode == 3
    assert "stopped; finished work is kept" in printed
    assert not any(is_running(pid) for pid in workers)
    assert finished_segments(tmp_path) >= segments
    finish(start(archive, tmp_path))
    assert published(tmp_path) == undisturbed
