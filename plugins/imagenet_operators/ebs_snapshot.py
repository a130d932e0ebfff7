"""Take an EBS snapshot of the data volume."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from imagenet_operators.stage import StageOperator


class EbsSnapshotOperator(StageOperator):
    """Creates one snapshot a published version and waits for it without holding a worker slot.

    Skipped when no volume id is set. The snapshot is looked up by its tags before it is created, so
    a retry, a cleared task and every poll after a reschedule find the one that is there.

    Args:
        poll_interval: Time between two looks at a snapshot that is under way.
    """

    stage = "snapshot_ebs"

    def __init__(self, *, poll_interval: timedelta = timedelta(minutes=1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval
