"""The leases of the segments that are being packed, and the room for those who pack them."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import asdict
from typing import Self

from imagenet_etl import leases
from imagenet_etl.pool import Job
from imagenet_etl.selection import Segment
from imagenet_etl.stage import Place

_RESERVE_BYTES = 1 << 16
"""On a full disk leases can be given back from this: that takes a small file at a time."""


class HeldSegments:
    """The leases of the segments that are with the workers; all are given back at the end.

    Attributes:
        staging: The folder for the workers' unfinished files. It lies in this process's own, so
            that who takes over from this process stops its workers as well.
        check: Raises ``LeaseLost`` once one of the leases was taken over.
    """

    def __init__(self, place: Place) -> None:
        self._build = place.build
        self._storage = place.build.storage
        self._owner = place.build.owner
        self._base = f"{place.base}/leases"
        self._leases: dict[str, leases.Lease] = {}
        self.staging = self._storage.staging() / f"workers-{uuid.uuid4().hex[:8]}"
        self.staging.mkdir()
        if self._storage.on_disk:
            (self.staging / "reserve").write_bytes(bytes(_RESERVE_BYTES))
        self._heartbeat = leases.Heartbeat(self._storage, [])
        self.check = self._heartbeat.check

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat.stop()
        # The workers are gone; a full disk gets back what they have staged, and the reserve.
        shutil.rmtree(self.staging, ignore_errors=True)
        for lease in self._leases.values():
            lease.release()

    def lease(self, segment: Segment) -> Job:
        """Return a worker's job, leased at the moment when the worker takes it."""
        key = f"{self._base}/segment-{segment.number:05d}"
        lease = self._leases[key] = leases.acquire(self._storage, key, self._owner)
        self._heartbeat.add(lease)
        return {
            "name": f"segment {segment.number} ({segment.split})",
            "segment": asdict(segment),
            "lease": key,
            "fence": lease.fence,
            "owner": asdict(self._owner),
            "aws": {} if self._storage.on_disk else self._build.worker_aws(),
        }

    def give_back(self, job: Job) -> None:
        """Release the lease of a finished job."""
        lease = self._leases.pop(job["lease"])
        self._heartbeat.remove(lease)
        lease.release()
