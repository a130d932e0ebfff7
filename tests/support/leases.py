"""One lease that tests fight over, and what lies in a storage for it."""

from __future__ import annotations

import json
from typing import Any

from imagenet_etl.lease_files import beat_key, record_key
from imagenet_etl.leases import PARKED_FOR_S, STALE_AFTER_S, Owner
from imagenet_etl.processes import this_process
from imagenet_etl.storage import Storage

KEY = "work/tiny/locks/v1"
MINE = Owner("run-1", "pack[0]")
OTHER = Owner("run-2", "pack[0]")


def names(storage: Storage) -> list[str]:
    """Return the names of the files that make up the lease."""
    return [key.rpartition("/")[2] for key, _ in storage.list(KEY)]


def beat_of(owner: Owner, generation: int = 1) -> str:
    """Return the key of a claim's heartbeat."""
    return beat_key(KEY, generation, owner)


def write_lease(
    storage: Storage, generation: int, owner: Owner, *, beat_at: float, **process: Any
) -> None:
    """Leave the files that a process elsewhere would have left."""
    record = {
        "owner": {"run": owner.run, "claim": owner.claim, "attempt": owner.attempt},
        "process": this_process().to_dict() | process,
        "at": beat_at - 1000,
    }
    storage.put(record_key(KEY, generation), json.dumps(record).encode())
    write_beat(storage, beat_of(owner, generation), beat_at, record["process"])


def write_beat(storage: Storage, key: str, beat_at: float, process: dict[str, Any] | None) -> None:
    """Leave one heartbeat; without a process it is a parked one."""
    beat = {
        "at": beat_at,
        "stale_after_s": STALE_AFTER_S if process else PARKED_FOR_S,
        "process": process,
        "released": False,
    }
    storage.put(key, json.dumps(beat).encode())
