"""Leases: one owner at a time, and whoever lost one notices."""

from __future__ import annotations

import json
import time

import pytest
from tests.support.leases import KEY, MINE, OTHER, names, write_lease

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
    assert names(storage) == ["00000001.beat.pack_0_-2e698d45.1.json", "00000001.json"]


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
        lease = acquire(storage, KEY, Owner(f"run-{number}", f"pack[{number}]"))
        assert lease.fence == number
        lease.release()
    assert len(names(storage)) == 2
    assert all(name.startswith("00000004.") for name in names(storage))


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
