"""Fault 23: a power cut loses what was not flushed, and no version is ever a mix."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.children import environment, wait_until
from tests.support.power_cut import copy_of, cut, make_disk, plugged_in

from imagenet_etl.files import sync_filesystem
from imagenet_etl.samples import SAMPLES, SampleSize
from imagenet_etl.verify import verify_folder

ARCHIVE = "tiny-imagenet-200.zip"
MIB = 1 << 20
SIZE = {"ext4": 96 * MIB, "xfs": 320 * MIB}
VERSION = "datasets/tiny_imagenet/v1"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("power") / ARCHIVE
    SAMPLES["tiny_imagenet"](path, None, SampleSize(classes=4, train=60, val=5, test=0))
    return path


@pytest.fixture(params=["ext4", "xfs"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(kind: str, tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk", kind, SIZE[kind])


@pytest.fixture
def disk(kind: str, image: Path, tmp_path: Path) -> Iterator[Path]:
    with plugged_in(image, tmp_path / "mounted", kind) as folder:
        yield folder


def start(archive: Path, data_dir: Path) -> subprocess.Popen[str]:
    """Start a build in a process group of its own."""
    command = [
        sys.executable, "-m", "imagenet_etl", "prepare", "tiny_imagenet",
        "--data-dir", str(data_dir), "--source", str(archive), "--expect", "any",
        "--format", "recordio", "--format", "imagefolder", "--version", "v1", "--shards", "6",
        "--resize", "short_edge:200", "--upscale", "--workers", "2",
    ]  # fmt: skip
    return subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    data_dir = tmp_path_factory.mktemp("undisturbed")
    finish(start(archive, data_dir))
    return files_below(data_dir / VERSION)


def test_the_cut_loses_what_was_not_flushed(
    disk: Path, image: Path, kind: str, tmp_path: Path
) -> None:
    (disk / "flushed").write_bytes(b"x" * MIB)
    sync_filesystem(disk)
    (disk / "unflushed").write_bytes(b"y" * MIB)
    copy = copy_of(image, tmp_path / "copy")
    with plugged_in(copy, tmp_path / "after", kind) as after:
        assert (after / "flushed").read_bytes() == b"x" * MIB
        lost = after / "unflushed"
        assert not lost.exists() or lost.read_bytes() != b"y" * MIB


def test_23_a_cut_in_the_middle_leaves_nothing_half_made_and_the_next_run_ends_equal(
    disk: Path, image: Path, kind: str, archive: Path, tmp_path: Path,
    undisturbed: dict[str, bytes],
) -> None:  # fmt: skip
    process = start(archive, disk / "data")
    receipts = "data/work/tiny_imagenet/pack/*/segments/*.json"
    assert wait_until(lambda: len(list(disk.glob(receipts))) >= 3, 60)
    copy = cut(image, tmp_path / "copy", process.pid)
    process.communicate()
    with plugged_in(copy, tmp_path / "after", kind) as after:
        version = after / "data" / VERSION
        assert not version.exists() or verify_folder(version)
        finish(start(archive, after / "data"))
        assert files_below(version) == undisturbed


def test_23_what_was_called_done_is_there_after_a_cut(
    disk: Path, image: Path, kind: str, archive: Path, tmp_path: Path,
    undisturbed: dict[str, bytes],
) -> None:  # fmt: skip
    process = start(archive, disk / "data")
    version = disk / "data" / VERSION
    while process.poll() is None and not version.exists():
        time.sleep(0.002)
    just_published = copy_of(image, tmp_path / "published")
    finish(process)
    done = copy_of(image, tmp_path / "done")
    for copy in (just_published, done):
        with plugged_in(copy, tmp_path / "after", kind) as after:
            found = after / "data" / VERSION
            if found.exists():  # its name may be on its way to the disk
                assert files_below(found) == undisturbed
            else:
                assert copy is just_published
