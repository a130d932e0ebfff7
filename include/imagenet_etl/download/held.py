"""Who is at work: on one archive, or on any version of the dataset."""

from __future__ import annotations

from imagenet_etl.build import Build
from imagenet_etl.download.alone import LOCK, lock_key
from imagenet_etl.download.archive import noted, upstream_changed
from imagenet_etl.download.notes import Note
from imagenet_etl.download.sources import Source
from imagenet_etl.lease_files import look_at
from imagenet_etl.lease_state import Holders, read_holders
from imagenet_etl.storage import Storage


def settled(build: Build, source: Source) -> Note | None:
    """Return an archive's note, or None while a task of this run still has to see to it.

    Two tasks that end together must not leave the stage to each other, so a task calls this only
    when it has given its own archive's lease back: the later of the two then sees both at rest. An
    archive that this run has held is not asked for upstream again, since nobody would come back to
    it. One that another run holds is never waited for.
    """
    note = noted(build, source.archive, source.place)
    if note is None:
        return None
    holders = _holders(build.storage, lock_key(build, source.archive.name))
    live = holders is not None and holders.live() is not None
    if holders is not None and holders.owner.run == build.owner.run:
        return None if live else note
    if not live and upstream_changed(build, source.archive, source.place):
        return None
    return note


def others_at_work(build: Build) -> list[str]:
    """Return the runs, other than this one, that hold a version of the dataset or wait in it."""
    prefix = f"{build.work}/locks"
    names = {key[len(prefix) + 1 :].partition("/")[0] for key, _ in build.storage.list(prefix)}
    keys = [f"{prefix}/{name}" for name in sorted(names) if not name.startswith(LOCK)]
    found = [_holders(build.storage, key) for key in keys if key != build.lock_key]
    runs = {item.owner.run for item in found if item is not None and item.live() is not None}
    return sorted(runs - {build.owner.run})


def _holders(storage: Storage, key: str) -> Holders | None:
    """Read a lease without taking it; None for one that nobody ever held."""
    while (look := look_at(storage, key)).latest:
        holders = read_holders(storage, look)
        if holders is not None:
            return holders
    return None
