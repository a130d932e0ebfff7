"""Who takes a lease over stops the writes of the process that has lost it, and of no other."""

from __future__ import annotations

import json
import time
from unittest.mock import Mock

import pytest
from tests.support import children
from tests.support.leases import KEY, MINE, OTHER, beat_of

from imagenet_etl import heartbeats
from imagenet_etl.errors import LeaseLost, NotWritable
from imagenet_etl.lease_files import beat_key
from imagenet_etl.leases import Lease, Owner, acquire, kept_alive
from imagenet_etl.storage import LocalStorage

RETRY = Owner(MINE.run, MINE.claim, 2)
SIBLING = Owner(MINE.run, "pack[1]")


@pytest.fixture
def zombie(folder: LocalStorage) -> LocalStorage:
    """The same folder, as the process sees it that is to lose its lease."""
    return LocalStorage(folder.root)


def writes(storage: LocalStorage) -> bool:
    try:
        return storage.create("a", b"x")
    except LeaseLost:
        return False


def make_stale(storage: LocalStorage, key: str) -> None:
    fields = json.loads(storage.read(key) or b"")
    storage.put(key, json.dumps(fields | {"at": time.time() - 61}).encode())


@pytest.mark.parametrize("shared", [False, True])
def test_a_later_try_stops_the_earlier_one(folder, zombie, shared):
    acquire(zombie, KEY, MINE, shared=shared)
    assert acquire(folder, KEY, RETRY, shared=shared).is_held()
    assert not writes(zombie)
    assert writes(folder)


def test_another_run_stops_all_tasks_of_one_that_is_silent(folder, zombie):
    sibling = LocalStorage(folder.root)
    acquire(zombie, KEY, MINE, shared=True)
    acquire(sibling, KEY, SIBLING, shared=True)
    for owner in (MINE, SIBLING):
        make_stale(folder, beat_of(owner))
    assert acquire(folder, KEY, OTHER, shared=True).fence == 2
    assert not writes(zombie)
    assert not writes(sibling)


def test_a_silent_winner_that_never_beat_is_stopped_by_its_record(folder, zombie):
    acquire(zombie, KEY, MINE)
    folder.remove(beat_of(MINE))
    make_stale(folder, f"{KEY}/00000001.json")
    assert acquire(folder, KEY, OTHER).fence == 2
    assert not writes(zombie)


def test_a_zombie_is_stopped_though_the_first_who_took_over_died_before_it_did_that(
    folder, zombie, monkeypatch
):
    acquire(zombie, KEY, MINE)
    first = LocalStorage(folder.root)
    monkeypatch.setattr(first, "revoke", Mock(side_effect=OSError("died")))
    with pytest.raises(OSError, match="died"):
        acquire(first, KEY, RETRY)
    assert acquire(folder, KEY, Owner(MINE.run, MINE.claim, 3)).fence == 3
    assert not writes(zombie)
    assert not writes(first)


def test_a_zombie_is_stopped_though_the_try_that_joined_after_it_died_before_it_did_that(
    folder, zombie, monkeypatch
):
    acquire(zombie, KEY, MINE, shared=True)
    first = LocalStorage(folder.root)
    monkeypatch.setattr(first, "revoke", Mock(side_effect=OSError("died")))
    with pytest.raises(OSError, match="died"):
        acquire(first, KEY, RETRY, shared=True)
    assert acquire(folder, KEY, Owner(MINE.run, MINE.claim, 3), shared=True).is_held()
    assert not writes(zombie)
    assert not writes(first)


def test_a_sibling_of_a_winner_that_died_at_once_stops_whom_that_had_not_stopped(
    folder, zombie, monkeypatch
):
    acquire(zombie, KEY, OTHER, shared=True)
    make_stale(folder, beat_of(OTHER))
    first = LocalStorage(folder.root)
    monkeypatch.setattr(first, "revoke", Mock(side_effect=OSError("died")))
    with pytest.raises(OSError, match="died"):
        acquire(first, KEY, MINE, shared=True)
    assert acquire(folder, KEY, SIBLING, shared=True).fence == 2
    assert not writes(zombie)
    assert not [key for key, _ in folder.list(KEY) if "/00000001." in key]


@pytest.mark.parametrize("shared", [False, True])
def test_who_takes_over_beats_while_it_stops_the_loser_which_may_take_long(
    folder, zombie, shared, monkeypatch
):
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.01)
    acquire(zombie, KEY, MINE, shared=shared)
    beats = []

    def slowly(_stagings: set[str]) -> None:
        key = beat_key(KEY, 1 if shared else 2, RETRY)
        first = folder.read(key)
        assert children.wait_until(lambda: folder.read(key) not in (None, first), 5)
        beats.append(first)

    monkeypatch.setattr(folder, "revoke", slowly)
    acquire(folder, KEY, RETRY, shared=shared)
    assert len(beats) == 1


def test_siblings_do_not_stop_each_other(folder, zombie):
    acquire(zombie, KEY, MINE, shared=True)
    acquire(folder, KEY, SIBLING, shared=True)
    acquire(LocalStorage(folder.root), KEY, Owner(MINE.run, "pack[1]", 2), shared=True)
    assert writes(zombie)
    assert not writes(folder)


@pytest.mark.parametrize("parked", [False, True])
def test_who_gave_a_lease_back_goes_on_with_other_work(folder, zombie, parked):
    acquire(zombie, KEY, MINE, shared=True).release(parked=parked)
    acquire(folder, KEY, SIBLING, shared=True)
    assert writes(zombie)


def test_who_takes_its_own_lease_again_goes_on(folder):
    acquire(folder, KEY, MINE)
    assert acquire(folder, KEY, RETRY).fence == 2
    assert writes(folder)


def test_a_lease_of_an_older_release_tells_no_fence_and_is_taken_over(folder, zombie):
    acquire(zombie, KEY, MINE)
    for key in (beat_of(MINE), f"{KEY}/00000001.json"):
        fields = json.loads(folder.read(key) or b"")
        del fields["staging"]
        folder.put(key, json.dumps(fields).encode())
    assert acquire(folder, KEY, RETRY).fence == 2


# --- what the loser is told


def test_who_was_stopped_is_told_so_when_it_looks_at_any_lease_of_its_own(folder, zombie):
    acquire(zombie, KEY, MINE)
    other = acquire(zombie, "another", MINE)
    acquire(folder, KEY, RETRY)
    with pytest.raises(LeaseLost, match="is gone"):
        other.check()


def lose(folder: LocalStorage) -> Lease:
    lease = acquire(folder, KEY, MINE)
    acquire(folder, KEY, RETRY)
    return lease


def test_what_a_block_fails_with_once_its_lease_is_lost_is_told_as_that(folder):
    with (
        pytest.raises(LeaseLost, match="v1 was taken over") as caught,
        kept_alive(folder, lose(folder)),
    ):
        raise FileNotFoundError("what the other one has tidied up")
    assert isinstance(caught.value.__context__, FileNotFoundError)


def test_what_a_block_fails_with_while_it_has_its_lease_is_told_as_it_is(folder):
    with pytest.raises(FileNotFoundError), kept_alive(folder, acquire(folder, KEY, MINE)):
        raise FileNotFoundError


def test_a_lease_that_cannot_be_looked_at_does_not_hide_why_a_block_failed(folder, monkeypatch):
    lease = acquire(folder, KEY, MINE)

    def unreadable(_prefix: str) -> None:
        raise NotWritable("the disk is gone")

    with pytest.raises(ZeroDivisionError), kept_alive(folder, lease):
        monkeypatch.setattr(folder, "list", unreadable)
        raise ZeroDivisionError


def test_who_has_lost_its_fence_gives_nothing_back_and_is_not_told_so(folder, zombie):
    lease = acquire(zombie, KEY, MINE)
    acquire(folder, KEY, RETRY)
    before = dict(folder.list(KEY))
    lease.release()
    assert dict(folder.list(KEY)) == before
