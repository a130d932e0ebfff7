"""Leases: one owner at a time, and whoever lost one notices."""

from __future__ import annotations

import json
import time

import pytest
from tests.support.leases import KEY, MINE, OTHER, names, write_lease

from imagenet_etl import leases
from imagenet_etl.errors import AlreadyRunning, LeaseLost
from imagenet_etl.leases import Lease, Owner, acquire
from imagenet_etl.processes import this_process

pytestmark = pytest.mark.usefixtures("temporary_folder")

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


def test_a_run_joins_the_lease_again_that_one_of_its_tasks_released(storage):
    first = acquire(storage, KEY, MINE, shared=True)
    acquire(storage, KEY, MINE, shared=True).release()
    assert acquire(storage, KEY, MINE, shared=True).fence == 1
    assert first.is_held()
    with pytest.raises(AlreadyRunning):
        acquire(storage, KEY, OTHER, shared=True)


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
