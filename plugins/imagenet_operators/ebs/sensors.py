"""Wait for a snapshot, a volume or an attachment that something else has begun."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator

from imagenet_etl.errors import CloudUnavailable, EtlError
from imagenet_operators.ebs.base import DEFERRABLE
from imagenet_operators.ebs.trigger import ProgressTrigger
from imagenet_operators.ebs.waits import (
    ATTACHMENT,
    GRACE,
    SNAPSHOT,
    VOLUME,
    Clients,
    Wait,
    begun_at,
    look,
    time_left,
)
from imagenet_operators.errors import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


class _EbsSensor(BaseSensorOperator):
    """Holds no worker slot between two looks: it is rescheduled, or deferred to the triggerer.

    Args:
        aws_conn_id: The connection with AWS credentials; None for those of the machine.
        region_name: The region; None for the connection's.
        deferrable: Whether the triggerer waits.
        deadline: How long it may take, counted from when AWS says that it began.
    """

    kind: ClassVar[str]
    waits_for: ClassVar[tuple[str, ...]]
    template_fields: Sequence[str] = ("aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        deferrable: bool = DEFERRABLE,
        deadline: timedelta = timedelta(minutes=15),
        **kwargs: Any,
    ) -> None:
        usual = {"mode": "reschedule", "poke_interval": 15.0}
        super().__init__(**usual | {"timeout": (deadline + GRACE).total_seconds()} | kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.deadline = deadline

    def execute(self, context: Context) -> Any:
        """Look; then make way until it is time for the next look."""
        if not self.deferrable:
            return super().execute(context)
        if not self.poke(context):
            with airflow_errors():
                wait = begun_at(self._wait(), Clients(self.aws_conn_id)("ec2", self.region_name))
            self.defer(
                trigger=ProgressTrigger([wait.to_dict()], self.poke_interval),
                method_name="resume",
                timeout=time_left([wait]),
            )
        return None

    def poke(self, context: Context) -> bool:  # noqa: ARG002
        """Return whether it is there."""
        with airflow_errors():
            ec2 = Clients(self.aws_conn_id)("ec2", self.region_name)
            try:
                progress = look(begun_at(self._wait(), ec2), ec2)
            except CloudUnavailable as error:
                # No answer says nothing about the thing; the sensor's timeout bounds the silence.
                self.log.warning("%s", error)
                return False
        self.log.info("%s", progress)
        return progress.done

    def resume(self, context: Context, event: dict[str, Any]) -> None:  # noqa: ARG002
        """End after the triggerer's wait."""
        if event["status"] != "done":
            with airflow_errors():
                raise EtlError.from_dict(event["error"])

    def _wait(self) -> Wait:
        return Wait(
            kind=self.kind,
            ids={name: getattr(self, name) for name in self.waits_for},
            region_name=self.region_name or "",
            begun="",
            deadline_s=self.deadline.total_seconds(),
            aws_conn_id=self.aws_conn_id,
        )


class EbsSnapshotSensor(_EbsSensor):
    """Waits until a snapshot, or a copy of one, is completed; fails when it ended in an error.

    Args:
        snapshot_id: The snapshot.
    """

    kind = SNAPSHOT
    waits_for = ("snapshot_id",)
    template_fields = (*_EbsSensor.template_fields, *waits_for)

    def __init__(
        self, *, snapshot_id: str, deadline: timedelta = timedelta(hours=24), **kwargs: Any
    ) -> None:
        super().__init__(deadline=deadline, **{"poke_interval": 60.0} | kwargs)
        self.snapshot_id = snapshot_id


class EbsVolumeSensor(_EbsSensor):
    """Waits until a volume can be attached; fails when it could not be made.

    Args:
        volume_id: The volume.
    """

    kind = VOLUME
    waits_for = ("volume_id",)
    template_fields = (*_EbsSensor.template_fields, *waits_for)

    def __init__(self, *, volume_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.volume_id = volume_id


class EbsAttachmentSensor(_EbsSensor):
    """Waits until a volume is attached to an instance; fails when nobody has by the deadline.

    Args:
        volume_id: The volume.
        instance_id: The instance.
    """

    kind = ATTACHMENT
    waits_for = ("volume_id", "instance_id")
    template_fields = (*_EbsSensor.template_fields, *waits_for)

    def __init__(self, *, volume_id: str, instance_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.volume_id = volume_id
        self.instance_id = instance_id
