"""Whatever the harness fails with, its logs are told; and it fails in time."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGALRM, SIGTERM, getsignal, signal

import httpx
import pytest
from cluster.guard import guarded
from cluster.processes import ClusterError, end_of
from tests.conftest import ROOT

WAITS_FOR_EVER = """
import contextlib, pathlib, sys, time
from cluster.guard import guarded

def harness():
    with contextlib.suppress(Exception):
        time.sleep(30)
    time.sleep(30)

sys.exit(guarded(harness, pathlib.Path.cwd(), 0.1))
"""


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: getsignal(number) for number in (SIGALRM, SIGTERM)}
    yield
    for number, handler in before.items():
        signal(number, handler)


def fails(error: BaseException) -> Callable[[], int]:
    def harness() -> int:
        raise error

    return harness


@pytest.mark.parametrize(
    "error",
    [ClusterError("told"), httpx.ConnectError("told"), KeyError("told")],
    ids=lambda error: type(error).__name__,
)
def test_every_failure_tells_the_logs_ends(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/worker-1.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert guarded(fails(error), tmp_path) == 1
    told = capsys.readouterr().out
    assert "--- worker-1.log\nline 70\n" in told
    assert "line 99\n" in told
    assert told.splitlines()[-1].startswith("FAILED: ")
    assert "told" in told.splitlines()[-1]


def test_an_end_asked_for_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: 3, tmp_path) == 3
    assert guarded(fails(KeyboardInterrupt()), tmp_path) == 130
    assert capsys.readouterr().out == ""


def test_the_whole_has_a_deadline_that_nothing_swallows(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_EVER], cwd=tmp_path, capture_output=True, text=True,
        timeout=20, env={"PYTHONPATH": str(ROOT / "scripts/lib")},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "FAILED: not at its end within 0.1 s\n")


def test_a_command_that_does_not_end_is_named() -> None:
    with subprocess.Popen(["sleep", "30"]) as process:
        with pytest.raises(ClusterError, match="migrate: not within"):
            end_of(process, "migrate", 0.01)
        process.kill()
