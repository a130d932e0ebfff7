"""Who holds a version by its name, for runs whose settings name none."""

from __future__ import annotations

from imagenet_etl.build import Build
from imagenet_etl.errors import AlreadyRunning
from imagenet_etl.lease_files import look_at
from imagenet_etl.lease_state import read_holders
from imagenet_etl.storage import Storage

NAMED, UNNAMED = "version-", "settings-"
"""How the locks of ``Build.lock_key`` begin."""


def named_lock(dataset: str, version: str) -> str:
    """Return the key of the lock that goes by a version's name."""
    return f"work/{dataset}/locks/{NAMED}{version}"


def live_run(storage: Storage, key: str) -> str:
    """Return the run that holds a lease and is alive; nothing when there is none."""
    while (look := look_at(storage, key)).latest:
        holders = read_holders(storage, look)
        if holders is not None:
            return holders.owner.run if holders.live() is not None else ""
    return ""


def check_unclaimed(build: Build, version: str) -> None:
    """Refuse to work on a version that another run holds by its name, such as ``prune``.

    A run whose settings name no version holds a lock by its settings, and knows the version's name
    when it is packed. ``prune`` takes the lease of the name first, and then looks for such runs. So
    one of the two always sees the other, as long as this is called with the run's lock held and
    before anything is believed of the version's files.

    Raises:
        AlreadyRunning: Another live run holds it.
    """
    key = named_lock(build.facts.name, version)
    run = "" if key == build.lock_key else live_run(build.storage, key)
    if run not in ("", build.owner.run):
        raise AlreadyRunning(
            f"version {version!r} of {build.facts.name} is held by run {run!r}",
            remedy="Wait for it: it removes the version, or works on it under this name",
        )
