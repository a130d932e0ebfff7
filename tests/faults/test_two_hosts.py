"""Locks between two hosts: other host names, other pid namespaces, the same shared storage."""

import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.support import storages
from tests.support.children import wait_until
from tests.support.hosts import OnHost, python_on_host
from tests.support.leases import KEY
from tests.support.moto_server import MotoServer

from imagenet_etl.errors import AlreadyRunning, LeaseLost
from imagenet_etl.leases import Lease, Owner, acquire
from imagenet_etl.storage import Storage

HOLDER = """
    import os, sys, time
    from imagenet_etl import heartbeats, lease_state, leases
    from imagenet_etl.errors import LeaseLost
    from tests.support.storages import open_described

    lease_state.STALE_AFTER_S, heartbeats.HEARTBEAT_S = 2.0, 0.2
    storage = open_described(sys.argv[1])
    owner = leases.Owner("run-b", sys.argv[2], int(sys.argv[3]))
    lease = leases.acquire(storage, sys.argv[4], owner)
    try:
        with leases.kept_alive(storage, lease) as beating:
            print("held by", os.getpid(), flush=True)
            print("pid", os.getpid(), flush=True)
            while True:
                time.sleep(0.05)
                beating.check()
    except LeaseLost as lost:
        print(lost, flush=True)
    time.sleep(60)
"""
STALE = 2.0


@pytest.fixture(params=storages.KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, moto: MotoServer) -> str:
    return storages.describe_new(request.param, tmp_path, moto)


@pytest.fixture
def storage(place: str) -> Iterator[Storage]:
    with storages.opened(place) as opened:
        yield opened


def holder(place: str, claim: str = "pack", attempt: int = 1) -> AbstractContextManager[OnHost]:
    return python_on_host("host-b", HOLDER, place, claim, attempt, KEY)


def test_a_live_holder_on_another_host_is_believed_whatever_pids_are_here(
    place: str, storage: Storage
) -> None:
    with holder(place) as other:
        assert other.told() == "pid 1"  # of which this host has one as well
        assert socket.gethostname() != "host-b"
        with pytest.raises(AlreadyRunning, match="process 1 on host-b"):
            acquire(storage, KEY, Owner("run-a"))
        other.send(signal.SIGSTOP)  # silent, but not for long
        with pytest.raises(AlreadyRunning, match="host-b"):
            acquire(storage, KEY, Owner("run-a"))


def test_a_dead_holder_on_another_host_is_taken_over_when_its_heartbeat_is_stale(
    place: str, storage: Storage
) -> None:
    with holder(place) as other:
        other.end()
        with pytest.raises(AlreadyRunning, match="host-b"):  # from here nobody sees that it died
            acquire(storage, KEY, Owner("run-a"))
        lease = taken_over(storage, Owner("run-a"))
        assert lease.fence == 2


def test_a_holder_that_wakes_up_after_it_was_taken_over_finds_its_lease_lost(
    place: str, storage: Storage
) -> None:
    with holder(place) as other:
        other.told()
        other.send(signal.SIGSTOP)
        lease = taken_over(storage, Owner("run-a"))
        other.send(signal.SIGCONT)
        assert f"{KEY} was taken over" in other.told()
        lease.check()


def test_a_later_try_on_another_host_does_not_wait_for_the_zombie(
    place: str, storage: Storage
) -> None:
    mine = acquire(storage, KEY, Owner("run-b", "pack", 1))
    with holder(place, "pack", attempt=2) as other:
        other.told()
        with pytest.raises(LeaseLost, match="taken over"):
            mine.check()
        with pytest.raises(AlreadyRunning, match="host-b"):
            acquire(storage, KEY, Owner("run-b", "pack", 1))


def taken_over(storage: Storage, owner: Owner) -> Lease:
    """Try until the lease is won."""
    won: list[Lease] = []

    def try_it() -> bool:
        try:
            won.append(acquire(storage, KEY, owner))
        except AlreadyRunning:
            return False
        return True

    assert wait_until(try_it, 10 * STALE)
    return won[0]
