"""Take an EBS snapshot of the data volume."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import timezone
from airflow.sdk.exceptions import AirflowRescheduleException

from imagenet_etl.errors import StillPending
from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


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

    def execute(self, context: Context) -> dict[str, Any]:
        """Create or find the snapshot; come back later while it is pending."""
        try:
            return super().execute(context)
        except StillPending as pending:
            self.log.info("%s; looking again in %s", pending, self.poll_interval)
            raise AirflowRescheduleException(timezone.utcnow() + self.poll_interval) from None
