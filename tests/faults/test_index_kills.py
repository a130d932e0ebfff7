"""A kill in the middle of an index: whole parts stay, and the next run gives the same bytes."""

import os
import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.support.children import environment, wait_until
from tests.support.class_tars import WHOLE
from tests.support.tars import write_large

MEMBERS = 300_000
POINTS = int(os.environ.get("IMAGENET_KILL_POINTS", "1"))
SEED = int(os.environ.get("IMAGENET_KILL_SEED", "20"))

pytestmark = pytest.mark.timeout(120 + 30 * POINTS)


@pytest.fixture(scope="module", params=["whole", "folder"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    path = write_large(folder / WHOLE, MEMBERS)
    if request.param == "whole":
        return path
    with tarfile.open(path) as tar:
        tar.extractall(folder / "tars", filter="data")
    path.unlink()
    return folder / "tars"


def start(command: str, source: Path, data_dir: Path) -> subprocess.Popen[str]:
    arguments = [
        sys.executable, "-m", "imagenet_etl", command, "imagenet_fall11",
        "--data-dir", str(data_dir), "--source", f"{WHOLE}={source}", "--expect", "any",
    ]  # fmt: skip
    return subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    return printed


def index_of(data_dir: Path) -> bytes:
    (path,) = data_dir.glob("work/imagenet_fall11/untar/*/images.parquet")
    return path.read_bytes()


def parts(data_dir: Path) -> int:
    return len(list(data_dir.glob("work/imagenet_fall11/untar/*/parts/*/[0-9]*.json")))


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    data_dir = tmp_path_factory.mktemp("undisturbed")
    finish(start("download", source, data_dir))
    assert "listed before" not in finish(start("untar", source, data_dir))
    return index_of(data_dir)


@pytest.mark.parametrize("point", range(POINTS))
def test_a_killed_index_is_gone_on_with_to_the_same_bytes(
    source: Path, undisturbed: bytes, tmp_path: Path, point: int
) -> None:
    rng = random.Random(SEED + point)
    wanted = rng.randrange(1, 4)
    print(f"seed {SEED}, point {point}: killed once {wanted} parts are finished")
    finish(start("download", source, tmp_path))
    process = start("untar", source, tmp_path)
    assert wait_until(lambda: parts(tmp_path) >= wanted, 30)
    process.kill()
    process.communicate()
    kept = parts(tmp_path)
    assert not list(tmp_path.glob("work/imagenet_fall11/untar/*/images.parquet"))
    printed = finish(start("untar", source, tmp_path))
    told = re.search(
        r"([0-9,]+) of 231 class tars with ([0-9,]+) images were listed before", printed
    )
    assert told is not None, printed
    # Only whole parts are found again, so the rest is all that was walked twice.
    assert int(told[2].replace(",", "")) >= 65_536 * kept >= 65_536 * wanted
    assert index_of(tmp_path) == undisturbed
    assert parts(tmp_path) == 0
    assert list((tmp_path / ".staging").iterdir()) == []
