"""The state of a lease, read from its heartbeats, and one claim's part in it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from imagenet_etl.errors import CloudUnavailable, LeaseLost, StorageError
from imagenet_etl.lease_files import LeaseFile, Look, Owner, beat_key, look_at
from imagenet_etl.processes import ProcessId, this_process
from imagenet_etl.storage import Storage
from imagenet_etl.storage.many import each, remove_all

log = logging.getLogger(__name__)
STALE_AFTER_S = 60.0
PARKED_FOR_S = 900.0
"""Between the tasks of one Airflow run nobody beats: long enough for a retry delay to pass."""

_FIELDS = ("at", "stale_after_s", "process", "released", "staging")
_OLDER = {"staging": ""}
"""What the heartbeats of older releases lack."""


@dataclass(frozen=True)
class Beat:
    """A heartbeat's content.

    Attributes:
        file: Where it stands.
        at: When it was written, in seconds since 1970.
        stale_after_s: For how long it is believed.
        process: Who wrote it; None when parked.
        released: Whether the claim gave the lease back.
        staging: What to revoke so that its process writes no more, see ``Storage.staging_name``.
    """

    file: LeaseFile
    at: float
    stale_after_s: float
    process: dict[str, Any] | None
    released: bool
    staging: str

    @property
    def is_parked(self) -> bool:
        """Return whether nobody works for it; in older layouts only the content tells."""
        return self.process is None

    def is_dead(self) -> bool:
        """Return whether its claim has surely died without giving the lease back."""
        process = None if self.released else self.process
        return process is not None and ProcessId(**process).is_known_dead()

    @property
    def can_write(self) -> bool:
        """Return whether its process, if it lives, may write what the lease is for."""
        return bool(self.staging) and not self.released and not self.is_parked

    def is_live(self) -> bool:
        """Return whether it speaks for a claim that works, or waits for its run's next task."""
        fresh = time.time() - self.at <= self.stale_after_s
        return fresh and not self.released and not self.is_dead()


@dataclass(frozen=True)
class Holders:
    """Who won the highest generation, and the heartbeats in it."""

    owner: Owner
    beats: tuple[Beat, ...]

    def live(self) -> Beat | None:
        """Return a heartbeat that keeps the lease, a worker's before a parked one."""
        alive = [beat for beat in self.beats if beat.is_live()]
        return min(alive, key=lambda beat: beat.is_parked, default=None)


def read_holders(storage: Storage, look: Look) -> Holders | None:
    """Read the highest generation; a winner that has not beaten yet counts by its record.

    Returns:
        None when a file vanished since the listing: the lease has changed hands, look again.
    """
    latest = look.latest
    (file,) = (file for file in look.files if file.generation == latest and not file.is_beat)
    beating = look.beats
    read = list(each(storage, storage.read, [file.key, *(beat.key for beat in beating)]))
    contents = [json.loads(data) for data in read if data is not None]
    if len(contents) < len(read):
        return None
    record, *told = contents
    beats = [_beat(beat, fields) for beat, fields in zip(beating, told, strict=True)]
    if not beats:
        beats = [_beat(file, record | {"stale_after_s": STALE_AFTER_S, "released": False})]
    return Holders(Owner(**record["owner"]), tuple(beats))


def _beat(file: LeaseFile, fields: dict[str, Any]) -> Beat:
    return Beat(file, *((_OLDER | fields)[name] for name in _FIELDS))


class Lease:
    """One claim's part in a held lease; made by ``acquire``.

    A shared one is lost as well when a later try of the claim has removed its heartbeat.
    """

    def __init__(
        self, storage: Storage, key: str, owner: Owner, fence: int, *, shared: bool = False
    ) -> None:
        self._storage = storage
        self._shared = shared
        self._beat_key = beat_key(key, fence, owner)
        self.key = key
        self.owner = owner
        self.fence = fence

    def is_held(self) -> bool:
        """Return True while nobody took the lease, or this claim's part in it, over."""
        return self._is_held_in(look_at(self._storage, self.key))

    def _is_held_in(self, look: Look) -> bool:
        return look.latest == self.fence and not (self._shared and self._is_replaced_in(look))

    def _is_replaced_in(self, look: Look) -> bool:
        beats = [file.key for file in look.beats]
        return self._beat_key not in beats or look.has_later_try(self.owner)

    def _has_failed_sibling(self, look: Look) -> bool:
        holders = read_holders(self._storage, look) if self._shared else None
        return holders is not None and any(
            beat.released and beat.file.key != self._beat_key for beat in holders.beats
        )

    def check(self) -> None:
        """Refuse to go on without the lease.

        Raises:
            LeaseLost: Another owner took over.
        """
        try:
            self._storage.staging_name()  # first: who takes over after the look can then stop us
        finally:
            self._check_look()

    def _check_look(self) -> None:
        look = look_at(self._storage, self.key)
        if not self._is_held_in(look):
            replaced = look.latest == self.fence
            raise LeaseLost(
                f"{self.key} was taken over while run {self.owner.run!r} worked on it",
                expected=f"generation {self.fence}",
                found=f"a later try of {self.owner.claim}" if replaced else look.latest,
                remedy="The newer run goes on; this one stops",
            )

    def beat(self, *, parked: bool = False, released: bool = False) -> None:
        """Write the heartbeat: alive now, parked between two tasks, or released for good."""
        beat = {
            "at": time.time(),
            "stale_after_s": PARKED_FOR_S if parked else STALE_AFTER_S,
            "process": None if parked else this_process().to_dict(),
            "released": released,
            "staging": "" if parked else self._storage.staging_name(),
        }
        key = beat_key(self.key, self.fence, self.owner, parked=parked)
        self._storage.put(key, json.dumps(beat).encode())
        if parked:
            self._storage.remove(self._beat_key)

    def release(self, *, parked: bool = False) -> None:
        """Give this claim's part back, or park it, unless it was lost already.

        The lease goes on for siblings at work. Where one of them has given its part back for good,
        the run has failed, and nothing is parked: whoever mends the trouble need not wait. Trouble
        is only logged: it must not hide why a block ended, and the heartbeat goes stale anyway.
        """
        try:
            self._storage.staging_name()  # first, as in check()
            look = look_at(self._storage, self.key)
            if not self._is_held_in(look):
                if look.latest == self.fence:  # the last beat may have come after the later try's
                    self._storage.remove(self._beat_key)
                return
            parked = parked and not self._has_failed_sibling(look)
            if not parked:
                remove_all(self._storage, [file.key for file in look.beats if file.is_parked])
            self.beat(parked=parked, released=not parked)
        except LeaseLost:
            return
        except (StorageError, CloudUnavailable) as trouble:
            log.warning("%s could not be given back, it goes stale instead: %s", self.key, trouble)
