"""Heartbeats: a held lease is beaten for from a background thread, and whoever lost one is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imagenet_etl.errors import LeaseLost, NothingToDo, StillPending
from imagenet_etl.lease_state import STALE_AFTER_S, Lease
from imagenet_etl.storage import Storage

log = logging.getLogger(__name__)
HEARTBEAT_S = 10.0


@contextmanager
def kept_alive(storage: Storage, *leases: Lease) -> Iterator[Heartbeat]:
    """Beat for the leases from a background thread until the block ends.

    Raises:
        LeaseLost: One of the leases had been taken over when the block ended, well or badly: what
            it then fails with, as with a file that is gone, is but what follows from that.
    """
    heartbeat = Heartbeat(storage, list(leases))
    try:
        yield heartbeat
    except (LeaseLost, NothingToDo, StillPending):
        raise
    except Exception:
        _check_all(leases)
        raise
    finally:
        heartbeat.stop()
    heartbeat.check()


def _check_all(leases: Iterable[Lease]) -> None:
    """Check leases; that it cannot be done is only logged, since it is not why a block failed."""
    try:
        for lease in leases:
            lease.check()
    except LeaseLost:
        raise
    except Exception as trouble:  # noqa: BLE001 - whatever it is, the block's own error counts
        log.warning("whether the lease was lost is unknown: %s", trouble)


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
        with self._guard:
            for lease in self._leases.values():
                lease.check()
                lease.beat()
        self._storage.keep_staging_alive()
