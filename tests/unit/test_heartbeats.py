"""Heartbeats: a lease stays alive while its block runs, and its loss is reported."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from tests.support import children
from tests.support.leases import KEY, MINE, beat_of

from imagenet_etl import heartbeats
from imagenet_etl.errors import LeaseLost, NotWritable
from imagenet_etl.leases import Owner, acquire, kept_alive
from imagenet_etl.storage import LocalStorage

pytestmark = pytest.mark.usefixtures("temporary_folder")


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(heartbeats, "HEARTBEAT_S", 0.02)


def beat_time(storage) -> float:
    return json.loads(storage.read(beat_of(MINE)))["at"]


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


def test_the_heartbeat_of_a_task_ends_when_a_later_try_of_it_joins_the_lock(storage, fast):
    zombie = acquire(storage, KEY, Owner("run-1", "pack[0]", 1), shared=True)
    with pytest.raises(LeaseLost), kept_alive(storage, zombie) as heartbeat:
        retry = acquire(storage, KEY, Owner("run-1", "pack[0]", 2), shared=True)
        assert children.wait_until(lambda: not heartbeat._thread.is_alive(), 5)
    retry.check()


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
    monkeypatch.setattr(heartbeats, "STALE_AFTER_S", 0.1)
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
