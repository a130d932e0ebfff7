"""A real file system on a loop device is held still, and thawed whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.aws.ebs.conftest import loop_disk

from imagenet_etl.aws.ebs import freeze
from imagenet_etl.aws.ebs.freeze import frozen
from imagenet_etl.errors import FreezeFailed

PATIENCE_S = 30.0
CHILD = """
import sys, time
from pathlib import Path
from imagenet_etl.aws.ebs.freeze import frozen
with frozen(Path(sys.argv[1])):
    print("frozen", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with loop_disk(tmp_path, request.param) as point:
        yield point


def write_in_child(folder: Path) -> subprocess.Popen[bytes]:
    """Begin a write that ends when the file system takes it."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'written').write_text('x')"
    return subprocess.Popen([sys.executable, "-c", code, str(folder)])


def eventually(is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not (so := is_so()) and time.monotonic() < end:
        time.sleep(0.05)
    return so


def can_write(folder: Path) -> bool:
    writer = write_in_child(folder)
    return eventually(lambda: writer.poll() is not None) and writer.returncode == 0


def test_writes_wait_until_the_end_of_the_block(disk: Path) -> None:
    with frozen(disk):
        writer = write_in_child(disk)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=1)
    assert writer.wait(timeout=PATIENCE_S) == 0


def test_limit_thaws_and_is_told(disk: Path) -> None:
    with pytest.raises(FreezeFailed, match="thawed by its limit"), frozen(disk, limit_s=0.2):
        assert write_in_child(disk).wait(timeout=PATIENCE_S) == 0


def test_error_in_the_block_thaws_and_goes_on(disk: Path) -> None:
    with pytest.raises(ZeroDivisionError), frozen(disk):
        raise ZeroDivisionError
    assert can_write(disk)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_process_group_leaves_nothing_frozen(disk: Path, number: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(disk)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"frozen\n"
    os.killpg(child.pid, number)
    child.wait()
    child.stdout.close()
    assert can_write(disk)


def guards_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if str(folder) in words and any(word.endswith("freeze_guard.py") for word in words):
            found.append(int(entry.name))
    return found


def test_killed_guard_is_stood_in_for(disk: Path) -> None:
    with frozen(disk):
        (guard,) = guards_of(disk)
        os.kill(guard, signal.SIGKILL)
    assert can_write(disk)


def test_guard_is_no_child_that_is_killed_with_its_parent(disk: Path) -> None:
    with frozen(disk):
        (guard,) = guards_of(disk)
        parent = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()
        assert os.getsid(guard) != os.getsid(0)
    assert eventually(lambda: guards_of(disk) == [])


def test_nothing_is_frozen_from_within_a_container(disk: Path) -> None:
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", CHILD, str(disk)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert "FreezeFailed" in ran.stderr
    assert "from within a container" in ran.stderr
    assert can_write(disk)


def test_thaw_by_somebody_else_is_noticed(disk: Path) -> None:
    with pytest.raises(FreezeFailed, match="did not stay frozen"), frozen(disk):
        (guard,) = guards_of(disk)
        os.kill(guard, signal.SIGKILL)
        subprocess.run(["fsfreeze", "-u", disk], check=True)


def test_what_is_frozen_already_stays_as_it_is(disk: Path) -> None:
    with frozen(disk):
        with pytest.raises(FreezeFailed, match="it is frozen already"), frozen(disk):
            raise AssertionError
        writer = write_in_child(disk)
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=0.5)
    assert writer.wait(timeout=PATIENCE_S) == 0


def test_folder_that_is_no_mount_point_is_refused(disk: Path) -> None:
    below = disk / "below"
    below.mkdir()
    with pytest.raises(FreezeFailed, match="is no mount point"), frozen(below):
        raise AssertionError


def test_root_is_refused() -> None:
    with pytest.raises(FreezeFailed, match="may be the root file system"), frozen(Path("/")):
        raise AssertionError


def test_memory_is_refused() -> None:
    with pytest.raises(FreezeFailed, match="expected ext4 or xfs"), frozen(Path("/dev/shm")):
        raise AssertionError


def test_other_users_than_root_are_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze.os, "geteuid", lambda: 1000)
    with pytest.raises(FreezeFailed, match="expected root, found user 1000"), frozen(disk):
        raise AssertionError
