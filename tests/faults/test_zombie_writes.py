"""Fault 38: a try that was given up wakes up right before a write, when its run has gone on.

Its look at the lease lies behind it: nothing but the fence stops it. Some of the calls here, of
packing one in ``IMAGENET_ZOMBIE_STEP``; all of them in ``scripts/bench zombie-writes``.
"""

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support.archives import build_of, tiny_zip
from tests.support.asleep import Sleeper, asleep_in
from tests.support.packing_here import pack_here

from imagenet_etl.build import Build
from imagenet_etl.errors import LeaseLost
from imagenet_etl.leases import Owner
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples import SampleSize

STAGES = ("download", "untar", "restructure_val", "filter_classes", "plan_shards", "pack",
          "verify", "report")  # fmt: skip
CALLS = {os: ("link", "rename", "replace", "mkdir", "unlink", "rmdir")}
"""Everything below ``work/`` and ``datasets/`` comes to its name, or loses it, by one of them."""
STEP = int(os.environ.get("IMAGENET_ZOMBIE_STEP", "29"))
SMALL_STEP = max(1, STEP // 10)
State = dict[str, tuple[int, int, int, bytes]]
Builds = Callable[[str, int], Build]


@pytest.fixture
def build(tmp_path: Path, output: str) -> Builds:
    (tmp_path / "site").mkdir()
    archive = tiny_zip(tmp_path / "site", size=SampleSize(classes=2, train=2, val=1, test=0))

    def of(claim: str, attempt: int) -> Build:
        found = build_of(tmp_path, archive, version="v1", formats=(output,), shards=2)
        return replace(found, owner=Owner("run-1", claim, attempt))

    return of


def do(build: Builds, stage: str, attempt: int = 1) -> bool:
    """Do a stage; return whether it was done already."""
    with build(stage, attempt).locked(hand_on=stage != "report") as held:
        return run_stage(held, stage).reused


def do_sleepily(build: Builds, stage: str, zombie: Sleeper) -> None:
    """Do a stage in a thread that falls asleep once it has its lease: before, it is no zombie."""
    zombie.may_sleep = False
    with build(stage, 1).locked(hand_on=True) as held:
        zombie.may_sleep = True
        if stage == "pack":
            pack_here(held)
        else:
            run_stage(held, stage)
        zombie.is_done = True


def state(folder: Path) -> State:
    """Return inode, size, time and content of every file that is not staged."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".staging" not in path.parts:
            stat = path.stat()
            key = path.relative_to(folder).as_posix()
            found[key] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, path.read_bytes())
    return found


@pytest.mark.parametrize(
    ("stage", "output", "step"),
    [
        ("restructure_val", "recordio", SMALL_STEP),
        ("plan_shards", "recordio", SMALL_STEP),
        ("pack", "recordio", STEP),
        ("pack", "imagefolder", STEP),
        ("verify", "recordio", SMALL_STEP),
    ],
)
def test_38_no_write_of_a_try_that_was_given_up_arrives(
    stage: str, step: int, build: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, before = tmp_path / "data", tmp_path / "before"
    rest = STAGES.index(stage)
    for name in STAGES[:rest]:
        do(build, name)
    data.rename(before)
    work = partial(do_sleepily, build, stage)
    lost = 0
    for call in itertools.count(1, step):
        shutil.copytree(before, data)
        with asleep_in(CALLS, monkeypatch, work, call) as zombie:
            was_done = do(build, stage, attempt=2)
            for name in STAGES[rest + 1 :]:
                do(build, name)
            there = state(data)
        if not zombie.slept:
            assert zombie.ended == [None], f"{stage} by itself"
            break
        assert state(data) == there, f"call {call} of {stage}"
        if not (was_done or zombie.slept_done):
            assert isinstance(zombie.ended[0], LeaseLost), f"call {call} of {stage}"
            lost += 1
        shutil.rmtree(data)
    assert lost, "it never slept at work"
