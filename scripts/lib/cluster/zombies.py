"""Proof: a worker is killed, and its tasks live on. They may work, but they publish nothing.

Both are stopped right after they were seen at work without their worker. One goes on when its next
try is at work: two processes that both believe to own the same segments. The other sleeps until the
version is published, and wakes up in a world that has gone on without it.
"""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.evidence import Evidence
from cluster.leases import finished, holders, snapshot
from cluster.packing import PackTask, begin_packing
from cluster.processes import ClusterError, group_of, send, wait_until
from cluster.runs import Run
from cluster.topology import Cluster

_RUN_S, _ENDS_S, _WORKS_S = 300.0, 90.0, 30.0
_LOST = re.compile(r"(LeaseLost): \S+/([^\s,]+)")
_ERROR = re.compile(r"^[\w.]+(?:Error|Exception|Died|Stalled|Running).*$", re.MULTILINE)


@dataclass
class Zombie:
    """A task whose worker is dead.

    Attributes:
        task: The task.
        held: The segments that it was packing when it was stopped.
    """

    task: PackTask
    held: set[str] = field(default_factory=set)

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        send(group_of(self.task.group), number)


def zombies(cluster: Cluster, conf: dict[str, Any]) -> list[str]:
    """Make two zombies and run to the end; return what was seen.

    Raises:
        ClusterError: A zombie did harm, or the run did not end well.
    """
    data = Path(conf["data_dir"])
    run, tasks = begin_packing(cluster, conf)
    victim = cluster.workers[-1]
    undead = [Zombie(task) for task in tasks if task.worker == victim]
    cluster.kill_worker_alone(victim)
    worked = [_works_on(zombie, data) for zombie in undead]
    for zombie in undead:
        stop_at_work(zombie, data)
    early, late = undead
    seen = Evidence(data, set().union(*(zombie.held for zombie in undead)))
    _wait_for_retry(run, early, seen)
    resumed = time.monotonic()
    early_end = _wake(cluster, early, seen)
    early_s = time.monotonic() - resumed
    cluster.start_one(victim)
    wait_until("the end of the run", lambda: [seen.look(), run.is_over()][1], _RUN_S)
    run.wait(_RUN_S)
    seen.check()
    late_told = _late_zombie(cluster, late, data)
    return [
        f"killed: {victim} alone; {', '.join(z.task.name for z in undead)} worked on without it "
        f"and finished {' and '.join(map(str, worked))} more segments, which were still theirs",
        f"{early.task.name} was stopped, went on when its next try was packing, and ended "
        f"{early_s:.1f} s later: {early_end}",
        late_told,
        f"{len(seen.segments)} segments that zombies held were published by the next try alone: "
        f"{seen.told()}",
    ]


def _works_on(zombie: Zombie, data: Path) -> int:
    """Wait until a zombie, which nobody has replaced yet, finishes segments; return how many.

    Raises:
        ClusterError: It does nothing.
    """
    before, claim = finished(data), zombie.task.name

    def new() -> set[str]:
        mine = {name for name, one in holders(data).items() if one.claim == claim}
        return (finished(data) - before) & mine

    wait_until(f"{claim} works without its worker", new, _WORKS_S)
    return len(new())


def stop_at_work(zombie: Zombie, data: Path) -> None:
    """Stop a zombie while it holds segments; between two of them it would prove nothing.

    Raises:
        ClusterError: It holds none for long.
    """

    def has_stopped() -> bool:
        group = group_of(zombie.task.group)
        states = {one.info["status"] for one in psutil.process_iter(["status"]) if one.pid in group}
        return states <= {psutil.STATUS_STOPPED}

    def holds() -> set[str]:
        zombie.signal(signal.SIGSTOP)
        wait_until(f"{zombie.task.name} has stopped", has_stopped, _WORKS_S)
        zombie.held = _held_by(zombie.task.name, data)
        if not zombie.held:
            zombie.signal(signal.SIGCONT)
        return zombie.held

    wait_until(f"{zombie.task.name} holds segments", holds, _WORKS_S)


def _held_by(claim: str, data: Path) -> set[str]:
    done = finished(data)
    return {name for name, one in holders(data).items() if one.claim == claim and name not in done}


def _wait_for_retry(run: Run, zombie: Zombie, seen: Evidence) -> None:
    """Wait until a zombie's next try has taken its segments over."""

    def has_begun() -> bool:
        now = seen.look()
        taken = {name for name, one in now.items() if one.attempt > 1}
        return zombie.held <= taken or run.is_over()

    wait_until(f"the next try of {zombie.task.name}", has_begun, _RUN_S)


def _wake(cluster: Cluster, zombie: Zombie, seen: Evidence | None = None) -> str:
    """Let a zombie go on until its processes have ended; return its exit code and its reason.

    Nobody listens to its log any more. What it fails with goes to where its worker's errors went.

    Raises:
        ClusterError: It does not end, or for another reason than a lost lease.
    """
    log = cluster.logs / f"{zombie.task.worker}.log"
    known = log.stat().st_size
    zombie.signal(signal.SIGCONT)

    def has_ended() -> bool:
        if seen is not None:
            seen.look()
        return not group_of(zombie.task.group)

    wait_until(f"the end of the zombie {zombie.task.name}", has_ended, _ENDS_S)
    ends = dict(line.split() for line in (cluster.folder / "orphans").read_text().splitlines())
    words = log.read_bytes()[known:].decode(errors="replace")
    reason = _LOST.search(words)
    if reason is None:
        errors = "\n".join(_ERROR.findall(words)) or words
        raise ClusterError(f"{zombie.task.name} ended, but of no lost lease:\n{errors}")
    return f"exit code {ends.get(str(zombie.task.group), 'unknown')}, {reason[1]} of {reason[2]}"


def _late_zombie(cluster: Cluster, zombie: Zombie, data: Path) -> str:
    """Wake a zombie when all is over; return how it ended.

    Raises:
        ClusterError: It changed a file.
    """
    if not group_of(zombie.task.group):
        raise ClusterError(f"{zombie.task.name} ended while it was stopped")
    before, began = snapshot(data), time.monotonic()
    end = _wake(cluster, zombie)
    seconds = time.monotonic() - began
    changed = sorted(dict(set(snapshot(data).items()) ^ set(before.items())))
    if changed:
        raise ClusterError(f"{zombie.task.name} woke up after the end and changed {changed}")
    return (f"{zombie.task.name} woke up when the version was published, ended {seconds:.1f} s "
            f"later: {end}; it changed no file")  # fmt: skip
