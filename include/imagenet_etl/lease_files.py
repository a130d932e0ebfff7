"""What lies in a lease's folder: generations, and the heartbeats of claims.

    00000003.json                             generation 3: who won it
    00000003.beat.<claim>.<attempt>.json      a claim's heartbeat, rewritten by this claim alone
    00000003.parked.beat.<claim>.<attempt>.json   in its place while the claim is between two tasks

A parked heartbeat bears a name of its own, so that whoever removes one can never hit the live
heartbeat of a claim that came back meanwhile. ``00000003.beat.json`` is the heartbeat of the empty
claim, and of older layouts, in which all claims of a run had one between them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from imagenet_etl.storage import Storage

_NAME = re.compile(r"(\d{8})(?:(\.parked)?(\.beat)(?:\.(.+)\.(\d+))?)?\.json")
_LONGEST_CLAIM = 60


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


def record_key(key: str, generation: int) -> str:
    """Return the key of the file whose creation wins a generation."""
    return f"{key}/{generation:08d}.json"


def beat_key(key: str, generation: int, owner: Owner, *, parked: bool = False) -> str:
    """Return the key of a claim's heartbeat."""
    whose = f".{safe_claim(owner.claim)}.{owner.attempt}"
    if (owner.claim, owner.attempt) == ("", 1):
        whose = ""
    return f"{key}/{generation:08d}{'.parked' * parked}.beat{whose}.json"


def safe_claim(claim: str) -> str:
    """Return a claim as a part of a file name; the digest keeps apart what becomes equal."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", claim)[:_LONGEST_CLAIM]
    return f"{safe}-{hashlib.sha256(claim.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class LeaseFile:
    """A file of a lease, as its name tells.

    Attributes:
        key: Where it lies.
        generation: Which generation it belongs to.
        is_beat: Whether it is a heartbeat.
        is_parked: Whether it is the heartbeat of a claim between two tasks.
        claim: The heartbeat's claim, made safe for a file name.
        attempt: The heartbeat's try number.
    """

    key: str
    generation: int
    is_beat: bool
    is_parked: bool
    claim: str
    attempt: int


@dataclass(frozen=True)
class Look:
    """What one listing of a lease's folder showed."""

    files: tuple[LeaseFile, ...]

    @property
    def latest(self) -> int:
        """Return the highest generation, 0 when the lease was never held."""
        return max((file.generation for file in self.files if not file.is_beat), default=0)

    @property
    def beats(self) -> list[LeaseFile]:
        """Return the heartbeats of the highest generation."""
        latest = self.latest
        return [file for file in self.files if file.is_beat and file.generation == latest]

    def has_later_try(self, owner: Owner) -> bool:
        """Return whether a higher attempt of the same claim shares the highest generation."""
        claim = safe_claim(owner.claim)
        return any(file.claim == claim and file.attempt > owner.attempt for file in self.beats)


def look_at(storage: Storage, key: str) -> Look:
    """List a lease.

    NFS keeps files that are deleted while they are read under names of its own; they are no lease.
    """
    files = []
    for name, _ in storage.list(key):
        match = _NAME.fullmatch(name.rpartition("/")[2])
        if match:
            generation, parked, beat, claim, attempt = match.groups()
            claim = claim or safe_claim("")
            files.append(
                LeaseFile(name, int(generation), bool(beat), bool(parked), claim, int(attempt or 1))
            )
    return Look(tuple(files))
