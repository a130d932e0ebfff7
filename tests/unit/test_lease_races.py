"""Leases among real processes and racing threads: one wins, and the dead keep nothing."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support import children
from tests.support.leases import KEY, MINE, OTHER, write_lease

from imagenet_etl import leases
from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.leases import Lease, Owner, acquire
from imagenet_etl.processes import this_process

pytestmark = pytest.mark.usefixtures("temporary_folder")

HOLD = """
    import sys
    from imagenet_etl.leases import Owner, acquire
    from tests.support.storages import open_described
    acquire(open_described(sys.argv[1]), sys.argv[2], Owner("run-of-child", "pack[0]"))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lease_of_a_killed_process_is_taken_over_at_once(storage, description):
    with children.python(HOLD, description, KEY) as child:
        assert children.told(child) == "held"
        with pytest.raises(AlreadyRunning, match=f"process {child.pid} on"):
            acquire(storage, KEY, MINE)
        child.kill()
        child.wait()
        assert acquire(storage, KEY, MINE).fence == 2


def test_a_killed_process_that_nobody_has_reaped_counts_as_dead(folder, tmp_path):
    with children.python(HOLD, folder.url, KEY) as child:
        assert children.told(child) == "held"
        child.kill()
        assert children.wait_until(lambda: not children.is_running(child.pid), 5)
        assert acquire(folder, KEY, MINE).fence == 2


def test_a_stopped_process_keeps_its_lease_until_its_heartbeat_is_old(folder, monkeypatch):
    with children.python(HOLD, folder.url, KEY) as child:
        assert children.told(child) == "held"
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(AlreadyRunning):
            acquire(folder, KEY, MINE)
        monkeypatch.setattr(time, "time", lambda real=time.time: real() + leases.STALE_AFTER_S + 1)
        assert acquire(folder, KEY, MINE).fence == 2


def test_a_reused_pid_is_not_the_owner(folder):
    started = this_process().started - 1
    write_lease(folder, 1, OTHER, beat_at=time.time(), started=started)
    assert acquire(folder, KEY, MINE).fence == 2


def test_one_of_many_racing_threads_wins(storage):
    line = threading.Barrier(8)

    def race(number: int) -> int:
        line.wait()
        try:
            return acquire(storage, KEY, Owner(f"run-{number}")).fence
        except AlreadyRunning:
            return 0

    with ThreadPoolExecutor(8) as executor:
        fences = list(executor.map(race, range(8)))
    assert sorted(fences) == [0] * 7 + [max(fences)]
    assert fences.count(0) == 7


def test_one_of_many_racing_threads_takes_over_a_stale_lease(storage):
    write_lease(storage, 5, Owner("dead"), beat_at=time.time() - 3600, host="elsewhere")
    line = threading.Barrier(8)

    def race(number: int) -> Lease | None:
        line.wait()
        try:
            return acquire(storage, KEY, Owner(f"run-{number}"))
        except AlreadyRunning:
            return None

    with ThreadPoolExecutor(8) as executor:
        won = [lease for lease in executor.map(race, range(8)) if lease]
    assert [lease.fence for lease in won] == [6]
    assert won[0].is_held()


def test_a_generation_that_was_swept_before_it_was_won_is_not_held(folder, monkeypatch):
    acquire(folder, KEY, OTHER).release()
    real = folder.create

    def after_two_others(key, data):
        monkeypatch.setattr(folder, "create", real)
        acquire(folder, KEY, Owner("run-3")).release()
        acquire(folder, KEY, Owner("run-4"))
        return real(key, data)

    monkeypatch.setattr(folder, "create", after_two_others)
    with pytest.raises(AlreadyRunning, match="run-4"):
        acquire(folder, KEY, MINE)


RACE = """
    import sys, time
    from imagenet_etl.errors import AlreadyRunning
    from imagenet_etl.leases import Owner, acquire
    from tests.support.storages import open_described
    storage = open_described(sys.argv[1])
    storage.staging()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print("won", acquire(storage, sys.argv[2], Owner(sys.argv[3])).fence, flush=True)
    except AlreadyRunning as error:
        print("lost to", str(error).split("'")[1], flush=True)
    sys.stdin.read()
"""


def test_one_of_several_racing_processes_wins(description):
    racers = [children.start_python(RACE, description, KEY, f"run-{n}") for n in range(4)]
    try:
        assert [children.told(racer) for racer in racers] == ["ready"] * 4
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [children.told(racer) for racer in racers]
    finally:
        for racer in racers:
            children.kill(racer)
    winner = said.index("won 1")
    assert said.count("won 1") == 1
    assert said.count(f"lost to run-{winner}") == 3
