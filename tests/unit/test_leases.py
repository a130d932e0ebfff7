"""Leases: one owner at a time, and whoever lost one notices."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support import children
from tests.support.moto_server import moto_server
from tests.support.storages import KINDS, describe_new, opened

from imagenet_etl import leases
from imagenet_etl.errors import AlreadyRunning, LeaseLost, NotWritable
from imagenet_etl.leases import Lease, Owner, acquire, kept_alive
from imagenet_etl.processes import this_process
from imagenet_etl.storage import LocalStorage

KEY = "work/tiny/locks/v1"
MINE = Owner("run-1", "pack[0]")
OTHER = Owner("run-2", "pack[0]")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Keep the staging of buckets, here and in child processes, out of the machine's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="module")
def moto():
    with moto_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def description(request, tmp_path, moto):
    return describe_new(request.param, tmp_path, moto)


@pytest.fixture
def storage(description):
    with opened(description) as storage:
        yield storage


@pytest.fixture
def folder(tmp_path):
    with opened(str(tmp_path / "data")) as storage:
        yield storage


def names(storage) -> list[str]:
    return [key.rpartition("/")[2] for key, _ in storage.list(KEY)]


def write_lease(storage, generation: int, owner: Owner, *, beat_at: float, **process) -> None:
    """Leave the files that a process elsewhere would have left."""
    record = {
        "owner": {"run": owner.run, "claim": owner.claim, "attempt": owner.attempt},
        "process": this_process().to_dict() | process,
        "at": beat_at - 1000,
    }
    beat = {"at": beat_at, "stale_after_s": 60.0, "process": record["process"], "released": False}
    storage.put(f"{KEY}/{generation:08d}.json", json.dumps(record).encode())
    storage.put(f"{KEY}/{generation:08d}.beat.json", json.dumps(beat).encode())


# --- acquiring


def test_a_free_lease_is_acquired(storage):
    lease = acquire(storage, KEY, MINE)
    assert lease.is_held()
    assert lease.fence == 1
    lease.check()
    assert names(storage) == ["00000001.beat.json", "00000001.json"]


def test_a_live_lease_is_refused_and_its_owner_named(storage):
    acquire(storage, KEY, MINE)
    with pytest.raises(AlreadyRunning, match=r"v1 is being built by run 'run-1' \(process \d+ on"):
        acquire(storage, KEY, OTHER)
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, MINE)  # the same claim twice, for example two clicks on "retry"
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, OTHER, shared=True)


def test_a_released_lease_is_free_at_once(storage):
    first = acquire(storage, KEY, MINE)
    first.release()
    second = acquire(storage, KEY, OTHER)
    assert second.fence == 2
    assert not first.is_held()


def test_only_the_last_generation_is_kept(storage):
    for number in range(1, 5):
        lease = acquire(storage, KEY, Owner(f"run-{number}"))
        assert lease.fence == number
        lease.release()
    assert names(storage) == ["00000004.beat.json", "00000004.json"]


def test_tasks_of_one_run_share_a_lease(storage):
    first = acquire(storage, KEY, Owner("run-1", "download"), shared=True)
    second = acquire(storage, KEY, Owner("run-1", "pack[1]"), shared=True)
    assert (first.fence, second.fence) == (1, 1)
    assert first.is_held()
    assert second.is_held()


def test_a_run_does_not_join_the_lease_that_it_released(storage):
    acquire(storage, KEY, MINE, shared=True).release()
    assert acquire(storage, KEY, MINE, shared=True).fence == 2


def test_a_parked_lease_waits_for_its_run_without_a_heartbeat(storage, monkeypatch):
    lease = acquire(storage, KEY, MINE, shared=True)
    lease.beat(parked=True)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 600)
    with pytest.raises(AlreadyRunning, match="between two tasks"):
        acquire(storage, KEY, OTHER, shared=True)
    assert acquire(storage, KEY, MINE, shared=True).fence == 1


def test_a_parked_lease_is_not_kept_for_ever(storage, monkeypatch):
    acquire(storage, KEY, MINE, shared=True).beat(parked=True)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + leases.PARKED_FOR_S + 1)
    assert acquire(storage, KEY, OTHER, shared=True).fence == 2


def test_a_lease_of_another_host_is_stale_when_its_heartbeat_is_old(storage):
    write_lease(storage, 7, OTHER, beat_at=time.time() - 30, host="elsewhere", pid=1)
    with pytest.raises(AlreadyRunning, match="process 1 on elsewhere"):
        acquire(storage, KEY, MINE)
    write_lease(storage, 7, OTHER, beat_at=time.time() - 61, host="elsewhere", pid=1)
    assert acquire(storage, KEY, MINE).fence == 8


def test_a_process_of_another_container_is_not_taken_for_dead(storage):
    write_lease(storage, 1, OTHER, beat_at=time.time(), namespace="pid:[1]", pid=2**22 - 1)
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, MINE)


def test_a_winner_that_has_not_beaten_yet_counts_as_alive(storage):
    record = {
        "owner": {"run": "run-2", "claim": "", "attempt": 1},
        "process": this_process().to_dict(),
        "at": time.time(),
    }
    storage.put(f"{KEY}/00000001.json", json.dumps(record).encode())
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, MINE)


def test_a_later_try_of_the_same_claim_takes_over(storage):
    zombie = acquire(storage, KEY, Owner("run-1", "pack[0]", 1))
    for other in (Owner("run-1", "pack[1]", 2), Owner("run-2", "pack[0]", 2)):
        with pytest.raises(AlreadyRunning):
            acquire(storage, KEY, other)
    retry = acquire(storage, KEY, Owner("run-1", "pack[0]", 2))
    assert retry.fence == 2
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, Owner("run-1", "pack[0]", 1))
    with pytest.raises(LeaseLost):
        zombie.check()


def test_files_that_a_network_file_system_leaves_behind_are_no_lease(storage):
    storage.put(f"{KEY}/.nfs0000000012345", b"")
    lease = acquire(storage, KEY, MINE)
    assert lease.is_held()
    assert ".nfs0000000012345" in names(storage)


# --- fencing


def test_the_loser_of_a_lease_cannot_go_on(storage):
    zombie = acquire(storage, KEY, Owner("run-1", "pack[0]", 1))
    acquire(storage, KEY, Owner("run-1", "pack[0]", 2))
    with pytest.raises(LeaseLost, match=r"'run-1'.*generation 1, found 2"):
        zombie.check()
    # A worker process rebuilds the lease from its job.
    with pytest.raises(LeaseLost):
        Lease(storage, KEY, zombie.owner, zombie.fence).check()


def test_the_loser_of_a_lease_cannot_release_it(storage):
    zombie = acquire(storage, KEY, Owner("run-1", "pack[0]", 1))
    retry = acquire(storage, KEY, Owner("run-1", "pack[0]", 2))
    zombie.release()
    zombie.beat(released=True)
    assert retry.is_held()
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, OTHER)


def test_a_lease_whose_folder_was_removed_is_lost(storage):
    lease = acquire(storage, KEY, MINE)
    storage.delete(KEY)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_run_that_joins_while_another_takes_over_does_not_hold_the_lease(folder, monkeypatch):
    write_lease(folder, 1, MINE, beat_at=time.time() - 3600)
    real = Lease.beat

    def overtaken(lease, **state):
        monkeypatch.setattr(Lease, "beat", real)
        # Between the look at the stale lease and the joining heartbeat.
        assert acquire(folder, KEY, OTHER, shared=True).fence == 2
        real(lease, **state)

    monkeypatch.setattr(Lease, "beat", overtaken)
    with pytest.raises(AlreadyRunning, match="run-2"):
        acquire(folder, KEY, MINE, shared=True)


# --- real processes

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


# --- the heartbeat


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)


def beat_time(storage) -> float:
    return json.loads(storage.read(f"{KEY}/00000001.beat.json"))["at"]


def test_the_heartbeat_goes_on_until_the_block_ends(storage, fast):
    lease = acquire(storage, KEY, MINE)
    first = beat_time(storage)
    with kept_alive(storage, lease) as heartbeat:
        assert children.wait_until(lambda: beat_time(storage) > first, 5)
        heartbeat.check()
    last = beat_time(storage)
    time.sleep(0.1)
    assert beat_time(storage) == last
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_the_heartbeat_reports_a_lost_lease_and_its_block_does_not_end_well(storage, fast):
    lease = acquire(storage, KEY, Owner("run-1", "pack[0]", 1))
    with pytest.raises(LeaseLost), kept_alive(storage, lease) as heartbeat:
        acquire(storage, KEY, Owner("run-1", "pack[0]", 2))
        assert children.wait_until(lambda: not heartbeat._thread.is_alive(), 5)
        with pytest.raises(LeaseLost, match="'run-1'"):
            heartbeat.check()


def test_leases_can_join_and_leave_a_heartbeat(folder, fast):
    lease = acquire(folder, KEY, MINE)
    first = beat_time(folder)
    with kept_alive(folder) as heartbeat:
        time.sleep(0.1)
        assert beat_time(folder) == first
        heartbeat.add(lease)
        assert children.wait_until(lambda: beat_time(folder) > first, 5)
        heartbeat.remove(lease)
        last = beat_time(folder)
        time.sleep(0.1)
        assert beat_time(folder) == last


def test_one_failed_beat_is_no_loss(folder, fast, monkeypatch):
    lease = acquire(folder, KEY, MINE)
    failures, real = (
        [NotWritable("a hiccup"), OSError("another"), ValueError("a third")],
        folder.put,
    )

    def hiccup(key, data):
        if failures:
            raise failures.pop()
        real(key, data)

    monkeypatch.setattr(folder, "put", hiccup)
    first = beat_time(folder)
    with kept_alive(folder, lease) as heartbeat:
        assert children.wait_until(lambda: beat_time(folder) > first, 5)
        heartbeat.check()
    assert not failures


@pytest.mark.parametrize("trouble", [NotWritable("gone"), OSError("gone"), ValueError("gone")])
def test_a_heartbeat_that_fails_for_long_is_reported(folder, fast, monkeypatch, trouble):
    monkeypatch.setattr(leases, "STALE_AFTER_S", 0.1)
    lease = acquire(folder, KEY, MINE)

    def fail(key, data):
        raise trouble

    monkeypatch.setattr(folder, "put", fail)
    with pytest.raises(type(trouble), match="gone"), kept_alive(folder, lease) as heartbeat:
        assert children.wait_until(lambda: not heartbeat._thread.is_alive(), 5)


def test_the_heartbeat_keeps_staging_alive(folder: LocalStorage, fast):
    staging = folder.staging()
    os.utime(staging, (0, 0))
    with kept_alive(folder):
        assert children.wait_until(lambda: staging.stat().st_mtime > 0, 5)
