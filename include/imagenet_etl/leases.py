"""Ownership that survives crashes: the run's lock, the download's and the segments' leases.

A lease is a folder of generations. Generation *n* is won by creating ``<n>.json``, which only one
process can. Taking over means winning generation *n + 1*, so the number is a fencing token: whoever
no longer holds the highest generation must not publish. Create-if-absent is all this asks of the
storage, so folders, network file systems and buckets behave alike. A process may fall asleep
between its look at the lease and its write: on a file system whoever takes over revokes the staging
folder that the loser has noted (``Storage.revoke``), so that such a write fails when it comes.

Every claim has a heartbeat of its own in the generation, which it alone writes. An exclusive lease
has one claim. A shared one is joined by the tasks of a run, and is live while one of them is: a
task that ends for good ends its own heartbeat and leaves its siblings theirs. Between two tasks
nobody beats; the one that ends parks its heartbeat, and the next that joins takes the baton: it
removes what is parked and speaks for the run from then on, so that its end is the run's, unless a
sibling is at work. Once a task has given its part back, its siblings park no more. A later try of a
claim ends the earlier one's part in a shared lease as well. ``lease_files`` tells what the files
are called.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict

from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.heartbeats import Heartbeat, kept_alive
from imagenet_etl.lease_files import Look, Owner, beat_key, look_at, record_key, safe_claim
from imagenet_etl.lease_state import (
    PARKED_FOR_S,
    STALE_AFTER_S,
    Beat,
    Holders,
    Lease,
    read_holders,
)
from imagenet_etl.processes import this_process
from imagenet_etl.storage import Storage
from imagenet_etl.storage.many import remove_all

__all__ = [
    "PARKED_FOR_S",
    "STALE_AFTER_S",
    "Heartbeat",
    "Lease",
    "Owner",
    "acquire",
    "acquire_patiently",
    "kept_alive",
]

log = logging.getLogger(__name__)
_PAUSE_S = 0.05


def acquire(storage: Storage, key: str, owner: Owner, *, shared: bool = False) -> Lease:
    """Win the next generation, or join the one that this run holds.

    Args:
        storage: Where the lease lies.
        key: The lease's folder.
        owner: Who asks.
        shared: Tasks of one run hold it together; otherwise one claim holds it alone.

    Raises:
        AlreadyRunning: A live owner holds it, or a later try of the same claim is at work.
        LeaseLost: It was taken over in this moment, or this process was stopped by another.
    """
    while True:
        look = look_at(storage, key)
        if look.latest:
            holders = read_holders(storage, look)
            if holders is None:
                time.sleep(_PAUSE_S)
                continue
            if shared and holders.owner.run == owner.run:
                lease = _join(storage, key, owner, look, holders)
                if lease is not None:
                    return lease
                continue  # another run, or a later try, took it over in this moment
            live = holders.live()
            if live is not None and not _is_superseded(holders.owner, owner):
                raise _already_running(key, holders, live)
            # A listing may miss one file that appears and one that goes while it is made.
            if shared and look_at(storage, key) != look:
                continue
        lease = _win(Lease(storage, key, owner, look.latest + 1, shared=shared), storage)
        if lease is not None:
            return lease


def _join(storage: Storage, key: str, owner: Owner, look: Look, holders: Holders) -> Lease | None:
    """Take the baton from what is parked; siblings at work keep their heartbeats."""
    claim = safe_claim(owner.claim)
    for beat in holders.beats:
        is_later = beat.file.claim == claim and beat.file.attempt > owner.attempt
        if is_later and not beat.is_parked and beat.is_live():
            raise _already_running(key, holders, beat)
    lease = Lease(storage, key, owner, look.latest, shared=True)
    lease.beat()
    mine = beat_key(key, lease.fence, owner)
    over = []
    for beat in holders.beats:
        is_other_try = beat.file.claim == claim and beat.file.attempt != owner.attempt
        is_done = beat.is_parked or beat.is_dead() or is_other_try
        if is_done and beat.file.is_beat and beat.file.key != mine:
            over.append(beat.file.key)
    _replace_earlier(storage, lease, look)
    _revoke(storage, lease, [beat for beat in holders.beats if beat.file.key in over])
    remove_all(storage, over)
    return lease if lease.is_held() else None


def _win(lease: Lease, storage: Storage) -> Lease | None:
    """Create a generation and sweep the older ones; return None if another was faster."""
    record = {"owner": asdict(lease.owner), "process": this_process().to_dict(), "at": time.time(),
              "staging": storage.staging_name()}  # fmt: skip
    mine = record_key(lease.key, lease.fence)
    if not storage.create(mine, json.dumps(record).encode()):
        time.sleep(_PAUSE_S)  # another won it; a network file system may show that later
        return None
    look = look_at(storage, lease.key)
    if look.latest != lease.fence:  # older generations were swept between look and creation
        storage.remove(mine)
        return None
    lease.beat()
    _replace_earlier(storage, lease, look)
    return lease


def _replace_earlier(storage: Storage, lease: Lease, look: Look) -> None:
    """Stop those who held earlier generations, and remove what tells of them.

    While that is there, it is not done: who won the last one may have died in the middle of it, or
    may still be at it.
    """
    older = [file for file in look.files if file.generation < lease.fence]
    if storage.on_disk:
        generations = {file.generation for file in older if not file.is_beat}
        beats = [beat for one in generations for beat in _beats_of(storage, lease.key, one)]
        _revoke(storage, lease, beats)
    remove_all(storage, [file.key for file in older])


def _beats_of(storage: Storage, key: str, generation: int) -> tuple[Beat, ...]:
    while True:
        files = [file for file in look_at(storage, key).files if file.generation == generation]
        look = Look(tuple(files))
        if not look.latest:  # a later winner has been here
            return ()
        holders = read_holders(storage, look)
        if holders is not None:
            return holders.beats
        time.sleep(_PAUSE_S)  # one of them has just parked its heartbeat


def _revoke(storage: Storage, lease: Lease, beats: Iterable[Beat]) -> None:
    """Stop the writes of those who have lost a lease and did not give it back."""
    if stagings := {beat.staging for beat in beats if beat.can_write}:
        with kept_alive(storage, lease):  # much may have to be removed
            storage.revoke(stagings)


def acquire_patiently(
    storage: Storage, key: str, owner: Owner, *, wait_s: float, pause_s: float, notice: str = ""
) -> Lease:
    """Win a lease, waiting while another live owner holds it.

    Args:
        storage: Where the lease lies.
        key: The lease's folder.
        owner: Who asks.
        wait_s: How long to wait.
        pause_s: How long between two looks.
        notice: Logged once when there is something to wait for.

    Raises:
        AlreadyRunning: It is still held after ``wait_s`` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return acquire(storage, key, owner)
        except AlreadyRunning:
            if time.monotonic() > deadline:
                raise
        if notice:
            log.info("%s", notice)
            notice = ""
        time.sleep(pause_s)


def _is_superseded(held: Owner, by: Owner) -> bool:
    """Airflow starts a second try only when it has given up the first: the later one wins."""
    return (held.run, held.claim) == (by.run, by.claim) and held.attempt < by.attempt


def _already_running(key: str, holders: Holders, live: Beat) -> AlreadyRunning:
    process = live.process
    where = f"process {process['pid']} on {process['host']}" if process else "between two tasks"
    seen = max(0, round(time.time() - live.at))
    return AlreadyRunning(
        f"{key.rpartition('/')[2]} is being built by run {holders.owner.run!r} ({where})",
        found=f"a heartbeat {seen} s ago",
        remedy="Wait for it, or choose another version name",
    )
