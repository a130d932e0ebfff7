"""One lease that tests fight over, and what lies in a storage for it."""

from __future__ import annotations

import json
from typing import Any

from imagenet_etl.leases import Owner
from imagenet_etl.processes import this_process
from imagenet_etl.storage import Storage

KEY = "work/tiny/locks/v1"
MINE = Owner("run-1", "pack[0]")
OTHER = Owner("run-2", "pack[0]")


def names(storage: Storage) -> list[str]:
    """Return the names of the files that make up the lease."""
    return [key.rpartition("/")[2] for key, _ in storage.list(KEY)]


def write_lease(
    storage: Storage, generation: int, owner: Owner, *, beat_at: float, **process: Any
) -> None:
    """Leave the files that a process elsewhere would have left."""
    record = {
        "owner": {"run": owner.run, "claim": owner.claim, "attempt": owner.attempt},
        "process": this_process().to_dict() | process,
        "at": beat_at - 1000,
    }
    beat = {"at": beat_at, "stale_after_s": 60.0, "process": record["process"], "released": False}
    storage.put(f"{KEY}/{generation:08d}.json", json.dumps(record).encode())
    storage.put(f"{KEY}/{generation:08d}.beat.json", json.dumps(beat).encode())
