"""Take a snapshot of a volume."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from imagenet_operators.ebs.base import Begun, EbsOperator, name_of_task
from imagenet_operators.ebs.links import EbsSnapshotLink
from imagenet_operators.ebs.waits import SNAPSHOT

if TYPE_CHECKING:
    from airflow.sdk import Context


class EbsTakeSnapshotOperator(EbsOperator):
    """Snapshots a volume as it is, once a run; whoever writes to it is to pause or flush before.

    The snapshot bears the name of the task and its run as a tag. A retry and a cleared task find it
    there. One that ended in an error fails the task and is marked; the cleared task makes another.

    Args:
        volume_id: The volume.
        description: The snapshot's description.
        tags: More tags.

    Returns:
        The snapshot's id.
    """

    template_fields = (*EbsOperator.template_fields, "volume_id", "description", "tags")
    operator_extra_links = (EbsSnapshotLink(),)

    def __init__(
        self,
        *,
        volume_id: str,
        description: str = "",
        tags: dict[str, str] | None = None,
        poll_interval: timedelta = timedelta(minutes=1),
        deadline: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline, **kwargs)
        self.volume_id = volume_id
        self.description = description
        self.tags = tags

    def begin(self, context: Context) -> Begun:
        """Find the snapshot of this task, or make it."""
        from imagenet_etl.aws.ebs.snapshots import create_snapshot
        from imagenet_etl.aws.ebs.tags import TOKEN

        ec2 = self.client()
        snapshot = create_snapshot(
            ec2,
            self.volume_id,
            description=self.description,
            tags=(self.tags or {}) | {TOKEN: name_of_task(context)},
        )
        snapshot_id = snapshot["SnapshotId"]
        self.show(ec2, snapshot_id)
        wait = self.wait_for(SNAPSHOT, ec2, snapshot["StartTime"], snapshot_id=snapshot_id)
        return Begun(snapshot_id, [wait])
