"""A deadline for waits that have no beginning of their own, such as that for one of EC2's limits.

A snapshot that is under way tells when it began; one that cannot be begun does not. A small note
beside the receipt tells since when a stage has been asking.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from imagenet_etl.errors import EtlError, SnapshotFailed, StillPending
from imagenet_etl.files import pretty_json
from imagenet_etl.stage import Place

_GIVEN_UP_S = 2 * 3600.0
"""Nobody asks so seldom: a note this old was left by a run that was given up."""


@contextmanager
def asking_at_most(place: Place, deadline_s: float) -> Iterator[None]:
    """Let the block say that something is pending until its time is over.

    Args:
        place: The stage's own folder.
        deadline_s: Seconds from the first time that the block said so.

    Raises:
        StillPending: The block says so, and there is time left.
        SnapshotFailed: It has been saying so for too long.
    """
    storage, key = place.build.storage, f"{place.base}/asking.json"
    try:
        yield
    except StillPending as pending:
        now = time.time()
        note = json.loads(storage.read(key) or b"{}")
        since = note["since"] if now - note.get("seen", 0.0) < _GIVEN_UP_S else now
        if now - since > deadline_s:
            storage.remove(key)
            raise SnapshotFailed(
                pending.what,
                expected=f"an end within {deadline_s / 3600:.0f} h",
                found=f"{pending.found or 'no change'} after {(now - since) / 3600:.1f} h",
                remedy=pending.remedy or "Look in the EC2 console for what holds it up",
            ) from pending
        storage.put(key, pretty_json({"schema_version": 1, "since": since, "seen": now}))
        raise
    except EtlError:
        storage.remove(key)
        raise
    storage.remove(key)
