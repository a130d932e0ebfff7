"""One Celery worker against two on this machine, and what the scheduler costs a mapped group.

The same run on the cluster of ``scripts/cluster``, into a new data folder each time, in turn with
one and with two workers. Each worker runs one task at a time, and a task packs in one process.
Two workers on two cores share these with Airflow itself, so that half the time is out of reach.

A mapped group's overhead is what its worker's slot lay idle for: the span from the first ``pack``
task's beginning to the last one's end, times workers, less the tasks' own run times, divided by the
groups. Where the last groups end at different times, the wait for the last one is in it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.guard import guarded
from cluster.keeper import kept
from cluster.processes import wait_until
from cluster.runs import Run, Task
from cluster.sample import DAG, build_archives, conf_of
from cluster.topology import Cluster

from benchmarks.compare import say

_CLASSES, _TRAIN = 40, 150
_SHARDS = 127  # and one of val: eight groups
_RUN_S, _START_S = 1800.0, 120.0


@dataclass(frozen=True)
class Times:
    """What one run took.

    Attributes:
        run_s: From the first task's beginning to the last one's end.
        pack_s: The same of the groups of ``pack``.
        idle_s: Overhead of a mapped group; see above.
    """

    run_s: float
    pack_s: float
    idle_s: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench scale-out", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="(default: 3)")
    args = parser.parse_args()
    return kept(lambda folder: guarded(lambda: _measured(folder, args.runs), folder))


def times_of(tasks: list[Task], workers: int) -> Times:
    """Return what a run's task instances tell of its time."""
    ran = [task for task in tasks if task.ended]
    groups = [task for task in ran if task.name.startswith("pack[")]
    span = _span(groups)
    idle = span * workers - sum(task.seconds for task in groups)
    return Times(_span(ran), span, idle / len(groups))


def _span(tasks: list[Task]) -> float:
    return max(task.ended for task in tasks) - min(task.began for task in tasks)


def _measured(folder: Path, runs: int) -> int:
    build_archives(folder / "archives", _CLASSES, _TRAIN)
    cluster = Cluster(folder, str(folder / "data"), workers=2, concurrency=1)
    cluster.start()
    found: dict[int, list[Times]] = {1: [], 2: []}
    for _ in range(runs):
        for workers, times in found.items():
            _set_workers(cluster, workers)
            times.append(_timed(cluster, workers))
            say(f"scale-out: {workers} workers: {times[-1]}")
    return _told(found)


def _set_workers(cluster: Cluster, count: int) -> None:
    second = cluster.workers[1]
    if count == 1:
        cluster.kill(second)
    elif not cluster.runs(second):
        cluster.start_one(second)
        wait_until(f"{second} is ready", lambda: cluster.worker_is_ready(second), _START_S)


def _timed(cluster: Cluster, workers: int) -> Times:
    data = cluster.folder / "measured"
    cluster.share(str(data))
    conf = conf_of(cluster.folder / "archives", data, shards=_SHARDS, workers=1)
    run = Run(cluster.api, DAG, conf)
    run.wait(_RUN_S)
    shutil.rmtree(data)
    return times_of(run.tasks(), workers)


def _told(found: dict[int, list[Times]]) -> int:
    one, two = (
        Times(*(statistics.median(getattr(each, name) for each in times)
                for name in ("run_s", "pack_s", "idle_s")))
        for times in found.values()
    )  # fmt: skip
    ratio = one.pack_s / two.pack_s
    sys.stdout.write(
        f"pack: one worker {one.pack_s:.1f} s, two {two.pack_s:.1f} s: {ratio:.2f}x\n"
        f"whole run: one worker {one.run_s:.1f} s, two {two.run_s:.1f} s: "
        f"{one.run_s / two.run_s:.2f}x\n"
        f"overhead a mapped group: one worker {one.idle_s:.2f} s, two {two.idle_s:.2f} s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
