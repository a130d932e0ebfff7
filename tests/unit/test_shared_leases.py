"""Shared leases: the tasks of a run hold one together, each by a heartbeat of its own."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from tests.support import children
from tests.support.leases import KEY, MINE, OTHER, beat_of, names, write_beat, write_lease

from imagenet_etl import leases
from imagenet_etl.errors import AlreadyRunning, LeaseLost
from imagenet_etl.leases import Lease, Owner, acquire
from imagenet_etl.processes import this_process
from imagenet_etl.storage import Storage

pytestmark = pytest.mark.usefixtures("temporary_folder")

FIRST, SECOND, THIRD = (Owner("run-1", f"pack[{number}]") for number in range(3))


def join(storage: Storage, owner: Owner) -> Lease:
    return acquire(storage, KEY, owner, shared=True)


def is_refused(storage: Storage) -> bool:
    """Return whether another run is refused; if not, it has the lease now."""
    try:
        join(storage, OTHER)
    except AlreadyRunning:
        return True
    return False


# --- beside each other


def test_tasks_of_one_run_share_a_lease(storage):
    first, second = join(storage, FIRST), join(storage, SECOND)
    assert (first.fence, second.fence) == (1, 1)
    assert first.is_held()
    assert second.is_held()


@pytest.mark.parametrize("failed", [0, 1])
def test_one_that_fails_for_good_leaves_the_lease_to_its_sibling_who_then_frees_it(storage, failed):
    both = [join(storage, FIRST), join(storage, SECOND)]
    both.pop(failed).release()
    assert is_refused(storage)
    both.pop().release()
    assert not is_refused(storage)


def test_a_sibling_at_work_outlives_many_that_come_and_go(folder):
    worker = join(folder, FIRST)
    for number in range(1, 6):
        join(folder, Owner("run-1", f"pack[{number}]")).release(parked=bool(number % 2))
        assert is_refused(folder)
    worker.check()
    worker.release()
    assert not is_refused(folder)


def test_a_run_joins_the_lease_again_that_one_of_its_tasks_released(storage):
    first = join(storage, MINE)
    join(storage, MINE).release()
    assert join(storage, MINE).fence == 1
    assert first.is_held()
    assert is_refused(storage)


def test_claims_that_look_alike_as_file_names_are_two(folder):
    first, second = join(folder, Owner("run-1", "a[0]")), join(folder, Owner("run-1", "a(0)"))
    first.release()
    assert is_refused(folder)
    assert second.is_held()


def test_a_claim_may_bear_any_name(storage):
    for claim in ("", "../../x", "ß" * 300, "a\nb", ".parked.beat.1"):
        lease = join(storage, Owner("run-1", claim))
        assert lease.is_held()
        lease.release()
    assert all(len(name.encode()) < 255 for name in names(storage))
    assert not is_refused(storage)


# --- one after the other


def test_a_parked_lease_waits_for_its_run_without_a_heartbeat(storage, monkeypatch):
    join(storage, MINE).release(parked=True)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 600)
    with pytest.raises(AlreadyRunning, match="between two tasks"):
        join(storage, OTHER)
    assert join(storage, MINE).fence == 1


def test_a_parked_lease_is_not_kept_for_ever(storage, monkeypatch):
    join(storage, MINE).release(parked=True)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + leases.PARKED_FOR_S + 1)
    assert join(storage, OTHER).fence == 2


def test_one_that_joins_a_parked_lease_and_fails_for_good_frees_it_at_once(storage):
    join(storage, FIRST).release(parked=True)
    join(storage, SECOND).release()
    assert not is_refused(storage)


def test_one_that_fails_for_good_frees_what_was_parked_beside_it(storage):
    parked, failed = join(storage, FIRST), join(storage, SECOND)
    parked.release(parked=True)
    failed.release()
    assert not is_refused(storage)


def test_one_that_would_park_after_its_sibling_failed_frees_the_lease(storage):
    parked, failed = join(storage, FIRST), join(storage, SECOND)
    failed.release()
    assert is_refused(storage)
    parked.release(parked=True)
    assert not is_refused(storage)


def test_one_that_joins_after_its_sibling_failed_parks_no_more_either(storage):
    first, failed = join(storage, FIRST), join(storage, SECOND)
    failed.release()
    late = join(storage, Owner(FIRST.run, "late"))
    first.release(parked=True)
    late.release(parked=True)
    assert not is_refused(storage)


def test_a_failed_task_that_is_run_again_lets_its_siblings_park_again(storage):
    parked, failed = join(storage, FIRST), join(storage, SECOND)
    failed.release()
    again = join(storage, SECOND)
    parked.release(parked=True)
    again.release(parked=True)
    assert is_refused(storage)


def test_a_parked_sibling_does_not_hide_who_is_at_work(storage):
    parked = join(storage, FIRST)
    join(storage, SECOND)
    parked.release(parked=True)
    with pytest.raises(AlreadyRunning, match="process"):
        join(storage, OTHER)


def test_a_task_that_looks_again_takes_its_own_parked_heartbeat_back(storage):
    for _ in range(3):
        join(storage, MINE).release(parked=True)
    join(storage, MINE).release()
    assert not is_refused(storage)


def test_the_files_of_a_long_run_stay_few(folder):
    for number in range(20):
        join(folder, Owner("run-1", f"pack[{number}]")).release(parked=True)
    assert len(names(folder)) <= 3


# --- later tries


def test_a_later_try_takes_its_claims_part_over_and_leaves_the_siblings(storage):
    zombie, sibling = join(storage, FIRST), join(storage, SECOND)
    retry = join(storage, replace(FIRST, attempt=2))
    assert retry.fence == 1
    with pytest.raises(LeaseLost, match=r"generation 1, found a later try of pack\[0\]"):
        zombie.check()
    sibling.check()
    retry.check()


@pytest.mark.parametrize("parked", [True, False])
def test_a_zombie_cannot_end_what_its_retry_holds(storage, parked):
    zombie = join(storage, FIRST)
    retry = join(storage, replace(FIRST, attempt=2))
    zombie.release(parked=parked)
    assert retry.is_held()
    with pytest.raises(AlreadyRunning, match="process"):
        join(storage, OTHER)
    retry.release()
    assert not is_refused(storage)


@pytest.mark.parametrize("parked", [True, False])
def test_a_zombie_that_still_beats_cannot_keep_what_its_retry_ended(storage, parked):
    zombie = join(storage, FIRST)
    join(storage, replace(FIRST, attempt=2)).release(parked=parked)
    join(storage, SECOND).release()  # removes what the retry left
    with pytest.raises(LeaseLost):
        zombie.check()
    zombie.release(parked=True)
    assert not is_refused(storage)


def test_a_last_beat_of_a_zombie_goes_when_it_gives_up(storage):
    zombie = join(storage, FIRST)
    retry = join(storage, replace(FIRST, attempt=2))
    zombie.beat()  # its heartbeat had looked just before
    assert not zombie.is_held()
    zombie.release()
    retry.release()
    assert not is_refused(storage)


def test_an_earlier_try_is_refused_while_a_later_one_works(storage):
    later = join(storage, replace(FIRST, attempt=2))
    with pytest.raises(AlreadyRunning):
        join(storage, FIRST)
    later.release()
    assert join(storage, FIRST).is_held()  # for example a run that is tested once more


# --- kills, and what other versions and machines leave


HOLD = """
    import sys
    from imagenet_etl.leases import Owner, acquire
    from tests.support.storages import open_described
    acquire(open_described(sys.argv[1]), sys.argv[2], Owner("run-1", "pack[0]"), shared=True)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_sibling_ends_nothing_and_keeps_nothing(storage, description):
    with children.python(HOLD, description, KEY) as child:
        assert children.told(child) == "held"
        mine = join(storage, SECOND)
        child.kill()
        child.wait()
        assert is_refused(storage)
        mine.release()
        assert not is_refused(storage)


def test_the_survivor_of_a_release_frees_the_lease_by_being_killed(storage, description):
    with children.python(HOLD, description, KEY) as child:
        assert children.told(child) == "held"
        join(storage, SECOND).release()
        with pytest.raises(AlreadyRunning, match=f"process {child.pid} on"):
            join(storage, OTHER)
        child.kill()
        child.wait()
        assert not is_refused(storage)


def test_a_sibling_on_another_host_counts_until_its_heartbeat_is_old(storage):
    elsewhere = this_process().to_dict() | {"host": "elsewhere", "pid": 1}
    join(storage, FIRST).release()
    write_beat(storage, beat_of(SECOND), time.time() - 30, elsewhere)
    with pytest.raises(AlreadyRunning, match="process 1 on elsewhere"):
        join(storage, OTHER)
    write_beat(storage, beat_of(SECOND), time.time() - 61, elsewhere)
    assert not is_refused(storage)


def test_a_heartbeat_of_an_older_layout_counts_while_it_is_fresh(storage):
    write_lease(storage, 1, FIRST, beat_at=time.time())
    storage.delete(beat_of(FIRST))
    write_beat(storage, f"{KEY}/00000001.beat.json", time.time(), this_process().to_dict())
    assert is_refused(storage)
    join(storage, SECOND).release()
    assert is_refused(storage)
    write_beat(storage, f"{KEY}/00000001.beat.json", time.time() - 61, this_process().to_dict())
    assert not is_refused(storage)


def test_a_parked_heartbeat_of_an_older_layout_is_taken_like_any_other(storage):
    write_lease(storage, 1, FIRST, beat_at=time.time())
    storage.delete(beat_of(FIRST))
    write_beat(storage, f"{KEY}/00000001.beat.json", time.time() - 600, None)
    with pytest.raises(AlreadyRunning, match="between two tasks"):
        join(storage, OTHER)
    join(storage, SECOND).release()
    assert not is_refused(storage)


def test_the_empty_claim_keeps_the_name_of_older_layouts(folder):
    join(folder, Owner("run-1"))
    assert names(folder) == ["00000001.beat.json", "00000001.json"]
    assert json.loads(folder.read(f"{KEY}/00000001.beat.json"))["released"] is False
