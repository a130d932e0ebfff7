"""Shared leases that are left at any step, or used in any order, hold what they should."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.leases import KEY, OTHER, beat_of, write_lease

from imagenet_etl import lease_state, leases
from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.lease_files import look_at
from imagenet_etl.lease_state import read_holders
from imagenet_etl.leases import Lease, Owner, acquire
from imagenet_etl.processes import ProcessId, this_process
from imagenet_etl.storage import LocalStorage, Storage

pytestmark = pytest.mark.usefixtures("temporary_folder")

CLAIMS = [Owner("run-1", f"pack[{number}]") for number in range(3)]
WRITES = ("create", "put", "remove")


class KilledHere(BaseException):
    """The process ends at this step; nothing may catch it."""


class Mortal:
    """A storage whose user is killed before one of its writes."""

    def __init__(self, storage: Storage, dies_at: int) -> None:
        self._storage = storage
        self.left = dies_at

    def __getattr__(self, name: str) -> Any:
        do = getattr(self._storage, name)
        if name not in WRITES:
            return do

        def write(*args: Any) -> Any:
            if not self.left:
                raise KilledHere(name)
            self.left -= 1
            return do(*args)

        return write


@contextmanager
def as_a_dead_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write heartbeats of a process whose pid was given to another one since."""
    me = this_process()
    dead = ProcessId(me.host, me.namespace, me.pid, me.started - 1)
    with monkeypatch.context() as patch:
        patch.setattr(lease_state, "this_process", lambda: dead)
        patch.setattr(leases, "this_process", lambda: dead)
        yield


def join(storage: Any, owner: Owner) -> Lease:
    return acquire(storage, KEY, owner, shared=True)


def is_live(storage: Storage) -> bool:
    look = look_at(storage, KEY)
    holders = read_holders(storage, look) if look.latest else None
    return holders is not None and holders.live() is not None


def come_and_go(storage: Any, *, parked: bool) -> None:
    join(storage, CLAIMS[0]).release(parked=parked)


@pytest.mark.parametrize("dies_at", range(6))
@pytest.mark.parametrize("parked", [True, False])
@pytest.mark.parametrize("before", ["nothing", "a sibling parked", "a sibling at work"])
def test_a_task_that_is_killed_at_any_step_blocks_nobody_for_long(
    folder, monkeypatch, before, parked, dies_at
):
    sibling = None
    if before != "nothing":
        sibling = join(folder, CLAIMS[1])
        if before == "a sibling parked":
            sibling.release(parked=True)
    mortal = Mortal(folder, dies_at)
    with as_a_dead_process(monkeypatch):
        try:
            come_and_go(mortal, parked=parked)
        except KilledHere:
            assert mortal.left == 0
    if before == "a sibling at work":
        assert sibling.is_held()
        assert is_live(folder)
        sibling.release()
        assert not is_live(folder)
    # Whatever it left: the run can go on, and frees the lock when it ends.
    last = join(folder, CLAIMS[2])
    with pytest.raises(AlreadyRunning):
        join(folder, OTHER)
    last.release()
    assert join(folder, OTHER).is_held()


def test_a_killed_task_is_stepped_through_to_its_end(folder):
    mortal = Mortal(folder, 100)
    come_and_go(mortal, parked=True)
    join(mortal, CLAIMS[1]).release()
    assert 100 - mortal.left == len(["create", "put", "park", "remove", "put", "remove", "put"])


def test_no_other_run_slips_in_while_tasks_hand_the_lock_on(storage):
    held = join(storage, CLAIMS[0])
    done, took = threading.Event(), []

    def thief() -> None:
        while not done.is_set():
            try:
                took.append(join(storage, OTHER))
                return
            except AlreadyRunning:
                continue

    thieves = [threading.Thread(target=thief) for _ in range(2)]
    for thread in thieves:
        thread.start()
    for turn in range(40):
        held.release(parked=True)
        held = join(storage, replace(CLAIMS[turn % 3], attempt=turn + 1))
    done.set()
    for thread in thieves:
        thread.join()
    assert not took
    held.check()


def test_a_listing_that_missed_the_baton_while_it_was_passed_is_not_believed(folder, monkeypatch):
    write_lease(folder, 1, CLAIMS[0], beat_at=time.time() - 3600)
    join(folder, CLAIMS[1])
    real, missed = folder.list, [".beat."]

    def once_without_heartbeats(prefix):
        without = missed.pop() if missed else "/0/"
        return ((key, stat) for key, stat in real(prefix) if without not in key)

    monkeypatch.setattr(folder, "list", once_without_heartbeats)
    with pytest.raises(AlreadyRunning):
        join(folder, OTHER)


def test_a_heartbeat_that_vanishes_before_it_is_read_asks_for_another_look(folder):
    join(folder, CLAIMS[0])
    join(folder, CLAIMS[1])
    look = look_at(folder, KEY)
    assert read_holders(folder, look) is not None
    folder.delete(beat_of(CLAIMS[0]))
    assert read_holders(folder, look) is None


@dataclass
class Model:
    """What should hold: which claims are at work, are parked, or have ended for good."""

    live: dict[int, Lease] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    zombies: list[Lease] = field(default_factory=list)
    parked: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    def join(self, storage: Storage, number: int) -> None:
        """A task starts; if an earlier try of it is still there, that is a zombie now."""
        if number in self.live:
            self.zombies.append(self.live[number])
        self.tries[number] = self.tries.get(number, 0) + 1
        self.parked.clear()
        self.ended.discard(number)
        self.live[number] = join(storage, replace(CLAIMS[number], attempt=self.tries[number]))

    def end(self, number: int, *, parked: bool) -> None:
        """A task ends, for good or until the next."""
        if number not in self.live:
            return
        self.live.pop(number).release(parked=parked)
        if parked and not self.ended:
            self.parked.add(number)
        else:
            self.parked.clear()
            self.ended.add(number)

    def zombies_end(self, *, parked: bool) -> None:
        """Zombies give back what they think they have."""
        while self.zombies:
            self.zombies.pop().release(parked=parked)


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "fail", "park", "zombies"]), st.integers(0, 2)), max_size=14
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_in_any_order_of_steps_the_lock_is_held_while_a_task_works_or_is_awaited(steps):
    with tempfile.TemporaryDirectory() as folder:
        storage, model = LocalStorage(Path(folder)), Model()
        model.join(storage, 0)
        for step, number in steps:
            if step == "join":
                model.join(storage, number)
            elif step == "zombies":
                model.zombies_end(parked=bool(number))
            else:
                model.end(number, parked=step == "park")
            assert is_live(storage) == bool(model.live or model.parked)
            assert all(lease.is_held() for lease in model.live.values())
            assert not any(lease.is_held() for lease in model.zombies)
            assert look_at(storage, KEY).latest == 1
