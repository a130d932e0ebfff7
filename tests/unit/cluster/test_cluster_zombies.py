"""A zombie proves something only if it holds segments, and only if these are taken over."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster.evidence import Evidence
from cluster.packing import PackTask
from cluster.processes import ClusterError
from cluster.zombies import Zombie, stop_at_work

PACK = "work/ilsvrc2012/pack/digest"
LEASE = json.dumps({"owner": {"claim": "pack[1]", "attempt": 1}})
# Between two segments at first: it holds one only after a while.
AT_WORK = f"sleep 0.3; mkdir -p leases/segment-1; echo '{LEASE}' >leases/segment-1/00000001.json"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / PACK
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def zombie(pack: Path) -> Iterator[Zombie]:
    process = subprocess.Popen(["sh", "-c", f"{AT_WORK}; sleep 60"], cwd=pack, process_group=0)
    zombie = Zombie(PackTask("pack[1]", "worker-1", process.pid, ()))
    yield zombie
    zombie.signal(signal.SIGKILL)
    process.wait()


def test_a_zombie_is_stopped_while_it_holds_segments(zombie: Zombie, tmp_path: Path) -> None:
    stop_at_work(zombie, tmp_path)
    assert zombie.held == {"segment-1"}
    assert psutil.Process(zombie.task.group).status() == psutil.STATUS_STOPPED


def test_a_segment_whose_holder_was_never_seen_proves_nothing(pack: Path, tmp_path: Path) -> None:
    (pack / "segments").mkdir()
    (pack / "segments/1.json").touch()
    seen = Evidence(tmp_path, {"segment-1"})
    assert seen.look() == {}
    with pytest.raises(ClusterError, match="nobody took over"):
        seen.check()


def test_a_segment_that_its_zombie_finished_is_told(pack: Path, tmp_path: Path) -> None:
    for name, text in {"leases/segment-1/00000001.json": LEASE, "segments/1.json": ""}.items():
        (pack / name).parent.mkdir(parents=True)
        (pack / name).write_text(text)
    with pytest.raises(ClusterError, match="published by a zombie"):
        Evidence(tmp_path, {"segment-1"}).look()
