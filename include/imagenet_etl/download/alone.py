"""One archive is fetched, unpacked or let go by one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imagenet_etl import leases
from imagenet_etl.build import Build
from imagenet_etl.errors import AlreadyRunning, SourceBusy, StillPending
from imagenet_etl.storage import Stat, Storage

LOCK = "download-"
"""How the names of the archives' own leases begin, among the locks of versions."""

_WAIT_FOR_OTHER_S = 600.0
_POLL_S = 1.0


def lock_key(build: Build, name: str) -> str:
    """Return the key of the lease of an archive."""
    return f"{build.work}/locks/{LOCK}{name}"


@contextmanager
def alone_at(build: Build, name: str) -> Iterator[tuple[leases.Lease, leases.Heartbeat]]:
    """Hold an archive's lease for the block; runs of other versions wait for the one that has it.

    Raises:
        SourceBusy: Another run still has it after ten minutes.
        StillPending: The same, in a task that may come again without counting it as a failure.
    """
    try:
        lease = leases.acquire_patiently(
            build.storage,
            lock_key(build, name),
            build.owner,
            wait_s=_WAIT_FOR_OTHER_S,
            pause_s=_POLL_S,
            notice=f"another run is at work on {name}; waiting for it",
        )
    except AlreadyRunning as error:
        # A terabyte takes the other run days.
        kind = SourceBusy if build.slice_s is None else StillPending
        raise kind(
            f"another run is still at work on {name}",
            found=error.found,
            remedy="It will be used as soon as it is complete: run again later",
        ) from error
    try:
        with leases.kept_alive(build.storage, lease) as heartbeat:
            yield lease, heartbeat
    finally:
        lease.release()


def remove_replaced(storage: Storage, lease: leases.Lease, key: str, old: Stat | None) -> None:
    """Remove an archive that upstream has replaced, unless its key holds another by now.

    Whoever was paused for so long that a successor took over must not delete what that one has
    published. No storage deletes on a condition, so both looks come right before.

    Args:
        storage: The data folder.
        lease: The archive's.
        key: The archive's key.
        old: What is to go; None for nothing.

    Raises:
        LeaseLost: A successor took over; nothing was removed.
    """
    lease.check()
    if old is not None and storage.stat(key) == old:
        storage.delete(key)
