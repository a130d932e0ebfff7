"""Nothing of the cluster outlives its harness, however that ends."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.support.children import is_running, wait_until

# Its processes leave their parents' groups and sessions, and lose their parents, as tasks do.
HARNESS = """
import os, subprocess, sys, time
from cluster.keeper import kept

def harness(folder):
    (folder / "file").touch()
    shell = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
    lost = subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "60"], process_group=0, stdout=quiet, stderr=quiet).pid
    print(os.getpid(), child, lost.strip(), folder, flush=True)
    ENDS
    return 7

sys.exit(kept(harness))
"""


def begin(ends: str) -> tuple[subprocess.Popen[str], list[int], Path]:
    """Return the keeper, the harness and its two processes, and the folder."""
    keeper = subprocess.Popen(
        [sys.executable, "-c", HARNESS.replace("ENDS", ends)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts/lib")},
    )  # fmt: skip
    assert keeper.stdout is not None
    *pids, folder = keeper.stdout.readline().split()
    return keeper, [int(pid) for pid in pids], Path(folder)


@pytest.fixture
def waiting() -> Iterator[tuple[subprocess.Popen[str], list[int], Path]]:
    begun = begin("time.sleep(60)")
    yield begun
    begun[0].kill()
    begun[0].communicate()


def check_nothing_is_left(pids: list[int], folder: Path) -> None:
    assert [pid for pid in pids if is_running(pid)] == []
    assert not folder.exists()


def test_nothing_stays_after_the_end_and_the_exit_code_is_the_harness_own() -> None:
    keeper, pids, folder = begin("pass")
    assert keeper.wait(20) == 7
    keeper.communicate()
    check_nothing_is_left(pids, folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl_c"])
def test_nothing_stays_when_the_harness_is_killed(
    waiting: tuple[subprocess.Popen[str], list[int], Path], number: int
) -> None:
    keeper, pids, folder = waiting
    os.kill(pids[0], number)
    assert keeper.wait(20) > 0
    check_nothing_is_left(pids, folder)


def test_the_end_is_handed_on_to_the_harness(
    waiting: tuple[subprocess.Popen[str], list[int], Path],
) -> None:
    keeper, pids, folder = waiting
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(20) == 128 + signal.SIGTERM
    check_nothing_is_left(pids, folder)


def test_the_harness_does_not_outlive_its_keeper(
    waiting: tuple[subprocess.Popen[str], list[int], Path],
) -> None:
    keeper, pids, folder = waiting
    keeper.kill()
    keeper.wait()
    assert wait_until(lambda: not is_running(pids[0]), 10)
    for pid in pids[1:]:  # a Postgres or a worker would have asked to be ended with the harness
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)
