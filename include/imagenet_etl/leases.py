"""Ownership that survives crashes: the run's lock, the download's and the segments' leases.

A lease is a folder of generations. Generation *n* is won by creating ``<n>.json``, which only one
process can; its heartbeat ``<n>.beat.json`` is replaced by the winner alone. Taking over means
winning generation *n + 1*, so the number is a fencing token: whoever no longer holds the highest
generation must not publish. Create-if-absent is all this asks of the storage, so folders, network
file systems and buckets behave alike.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from imagenet_etl.errors import AlreadyRunning, CloudUnavailable, LeaseLost, StorageError
from imagenet_etl.processes import ProcessId, this_process
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)
HEARTBEAT_S = 10.0
STALE_AFTER_S = 60.0
PARKED_FOR_S = 900.0
"""Between the tasks of one Airflow run nobody beats: long enough for a retry delay to pass."""

_PAUSE_S = 0.05
_GENERATION = re.compile(r"(\d{8})(\.beat)?\.json")


@dataclass(frozen=True)
class Owner:
    """Who asks for a lease.

    Attributes:
        run: The Airflow run id, or a random token on the command line.
        claim: What part of the run this is, for example ``pack[3]``.
        attempt: The try number; a higher one of the same run and claim replaces a lower.
    """

    run: str
    claim: str = ""
    attempt: int = 1


class Lease:
    """A held lease; made by ``acquire``."""

    def __init__(self, storage: Storage, key: str, owner: Owner, fence: int) -> None:
        self._storage = storage
        self.key = key
        self.owner = owner
        self.fence = fence

    def is_held(self) -> bool:
        """Return True while no later generation exists."""
        return _latest(self._storage, self.key) == self.fence

    def check(self) -> None:
        """Refuse to go on without the lease.

        Raises:
            LeaseLost: Another owner took over.
        """
        if not self.is_held():
            raise LeaseLost(
                f"{self.key} was taken over while run {self.owner.run!r} worked on it",
                expected=f"generation {self.fence}",
                found=_latest(self._storage, self.key),
                remedy="The newer run goes on; this one stops",
            )

    def beat(self, *, parked: bool = False, released: bool = False) -> None:
        """Write the heartbeat: alive now, parked between two tasks, or released for good."""
        beat = {
            "at": time.time(),
            "stale_after_s": PARKED_FOR_S if parked else STALE_AFTER_S,
            "process": None if parked else this_process().to_dict(),
            "released": released,
        }
        self._storage.put(f"{self.key}/{self.fence:08d}.beat.json", json.dumps(beat).encode())

    def release(self, *, parked: bool = False) -> None:
        """Give the lease back, or park it, unless it was lost already.

        Trouble is only logged: it must not hide why a block ended, and the lease goes stale anyway.
        """
        try:
            if self.is_held():
                self.beat(parked=parked, released=not parked)
        except (StorageError, CloudUnavailable) as trouble:
            log.warning("%s could not be given back, it goes stale instead: %s", self.key, trouble)


def acquire(storage: Storage, key: str, owner: Owner, *, shared: bool = False) -> Lease:
    """Win the next generation, or join the one that this run holds.

    Args:
        storage: Where the lease lies.
        key: The lease's folder.
        owner: Who asks.
        shared: Tasks of one run hold it together; otherwise one claim holds it alone.

    Raises:
        AlreadyRunning: A live owner holds it.
    """
    while True:
        current = _latest(storage, key)
        if current:
            state = _state(storage, key, current)
            if shared and state and state["owner"]["run"] == owner.run:
                lease = Lease(storage, key, owner, current)
                lease.beat()
                if lease.is_held():
                    return lease
                continue  # another run took it over in this moment
            if state and _is_live(state) and not _is_superseded(state, owner):
                raise _already_running(key, state)
        record = {"owner": asdict(owner), "process": this_process().to_dict(), "at": time.time()}
        if not storage.create(f"{key}/{current + 1:08d}.json", json.dumps(record).encode()):
            time.sleep(_PAUSE_S)  # another won it; a network file system may show that later
            continue
        lease = Lease(storage, key, owner, current + 1)
        if not lease.is_held():  # older generations were swept between the look and the creation
            storage.delete(f"{key}/{lease.fence:08d}.json")
            continue
        for name, generation, _ in list(_generations(storage, key)):
            if generation < lease.fence:
                storage.delete(name)
        lease.beat()
        return lease


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


def _generations(storage: Storage, key: str) -> Iterator[tuple[str, int, bool]]:
    """Yield each file's key, its generation, and whether it is a heartbeat.

    NFS keeps files that are deleted while they are read under names of its own; they are no lease.
    """
    for name, _ in storage.list(key):
        match = _GENERATION.fullmatch(name.rpartition("/")[2])
        if match:
            yield name, int(match[1]), bool(match[2])


def _latest(storage: Storage, key: str) -> int:
    return max((n for _, n, is_beat in _generations(storage, key) if not is_beat), default=0)


def _state(storage: Storage, key: str, generation: int) -> dict[str, Any] | None:
    record = storage.read(f"{key}/{generation:08d}.json")
    if record is None:
        return None
    beat = storage.read(f"{key}/{generation:08d}.beat.json")
    state: dict[str, Any] = {"stale_after_s": STALE_AFTER_S, "released": False}
    state.update(json.loads(record))
    state.update(json.loads(beat or b"{}"))
    return state


def _is_live(state: dict[str, Any]) -> bool:
    if state["released"] or time.time() - state["at"] > state["stale_after_s"]:
        return False
    process = state["process"]
    return process is None or not ProcessId(**process).is_known_dead()


def _is_superseded(state: dict[str, Any], by: Owner) -> bool:
    """Airflow starts a second try only when it has given up the first: the later one wins."""
    held = Owner(**state["owner"])
    return (held.run, held.claim) == (by.run, by.claim) and held.attempt < by.attempt


def _already_running(key: str, state: dict[str, Any]) -> AlreadyRunning:
    process = state["process"]
    where = f"process {process['pid']} on {process['host']}" if process else "between two tasks"
    seen = max(0, round(time.time() - state["at"]))
    return AlreadyRunning(
        f"{key.rpartition('/')[2]} is being built by run {state['owner']['run']!r} ({where})",
        found=f"a heartbeat {seen} s ago",
        remedy="Wait for it, or choose another version name",
    )


@contextmanager
def kept_alive(storage: Storage, *leases: Lease) -> Iterator[Heartbeat]:
    """Beat for the leases from a background thread until the block ends.

    Raises:
        LeaseLost: The block ended well, but one of the leases had been taken over by then.
    """
    heartbeat = Heartbeat(storage, list(leases))
    try:
        yield heartbeat
    finally:
        heartbeat.stop()
    heartbeat.check()


class Heartbeat:
    """One thread that beats for any number of leases and remembers the first trouble."""

    def __init__(self, storage: Storage, leases: list[Lease]) -> None:
        self._storage = storage
        self._leases = {lease.key: lease for lease in leases}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def add(self, lease: Lease) -> None:
        """Beat for one more lease."""
        with self._guard:
            self._leases[lease.key] = lease

    def remove(self, lease: Lease) -> None:
        """Stop beating for a lease."""
        with self._guard:
            self._leases.pop(lease.key, None)

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did.

        Raises:
            LeaseLost: One of the leases was taken over.
        """
        if self._trouble is not None:
            raise self._trouble

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        beaten = time.monotonic()
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._beat()
                beaten = time.monotonic()
            except LeaseLost as lost:
                self._trouble = lost
                return
            except Exception as trouble:  # noqa: BLE001 - else the thread would end unnoticed
                # A beat may fail now and then; only long before others see it matters.
                if time.monotonic() - beaten > STALE_AFTER_S / 2:
                    self._trouble = trouble
                    return

    def _beat(self) -> None:
        self._storage.keep_staging_alive()
        with self._guard:
            for lease in self._leases.values():
                lease.check()
                lease.beat()
