"""What is waited for, in plain values, so that it passes from a worker to the triggerer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagenet_etl.aws.ebs.waits import Progress

SNAPSHOT, VOLUME, ATTACHMENT, DETACHMENT, COMMAND = (
    "snapshot", "volume", "attachment", "detachment", "command"
)  # fmt: skip

GRACE = timedelta(minutes=10)
"""For the last looks, which tell better what is wrong than Airflow's own timeout."""


@dataclass(frozen=True)
class Wait:
    """Something under way at AWS.

    Attributes:
        kind: ``SNAPSHOT``, ``VOLUME``, ``ATTACHMENT``, ``DETACHMENT`` or ``COMMAND``.
        ids: What the kind's progress function is called with, by parameter.
        region_name: Where it is.
        begun: When it began by AWS's account, in ISO 8601; the deadline counts from there.
        deadline_s: How long it may take, in seconds.
        aws_conn_id: The connection with AWS credentials; None for those of the machine.
    """

    kind: str
    ids: dict[str, str]
    region_name: str
    begun: str
    deadline_s: float
    aws_conn_id: str | None = "aws_default"

    @property
    def service(self) -> str:
        """The AWS service that is asked."""
        return "ssm" if self.kind == COMMAND else "ec2"

    def age(self) -> timedelta:
        """Return for how long it has been under way."""
        return datetime.now(UTC) - datetime.fromisoformat(self.begun)

    def left(self) -> timedelta:
        """Return how much of its time is left; negative when it is over."""
        return timedelta(seconds=self.deadline_s) - self.age()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Wait:
        """Rebuild what ``to_dict`` gave."""
        return Wait(**values)


def look(wait: Wait, client: Any) -> Progress:
    """Ask AWS once how far it is.

    Args:
        wait: What is waited for.
        client: A boto3 client of ``wait.service`` in its region.

    Raises:
        SnapshotFailed, VolumeFailed, CommandFailed: It failed, or its time is over.
        CloudNotFound: It does not exist.
        CloudUnavailable: AWS gives no answer now.
    """
    from imagenet_etl.aws.ebs.waits import check_deadline
    from imagenet_etl.errors import CommandFailed, SnapshotFailed, VolumeFailed

    progress = _question(wait.kind)(client, **wait.ids)
    failed = {SNAPSHOT: SnapshotFailed, COMMAND: CommandFailed}.get(wait.kind, VolumeFailed)
    if wait.begun:
        check_deadline(progress, datetime.fromisoformat(wait.begun), wait.deadline_s, failed)
    return progress


def patient_look(wait: Wait, client: Any) -> Progress:
    """Ask as ``look`` does; no answer is no progress, while there is time left.

    Raises:
        CloudUnavailable: AWS gives no answer, and the time is over.
    """
    from imagenet_etl.aws.ebs.waits import Progress
    from imagenet_etl.errors import CloudUnavailable

    try:
        return look(wait, client)
    except CloudUnavailable as error:
        if wait.left() <= timedelta(0):
            raise
        return Progress(" ".join((wait.kind, *wait.ids.values())), "unknown", False, str(error))


def time_left(waits: Sequence[Wait]) -> timedelta:
    """Return after how long even a triggerer that does not run has kept a task for too long."""
    return max(*(wait.left() for wait in waits), timedelta(0)) + GRACE


def _question(kind: str) -> Callable[..., Progress]:
    from imagenet_etl.aws.ebs import waits
    from imagenet_etl.aws.ssm import command_progress

    return {
        SNAPSHOT: waits.snapshot_progress,
        VOLUME: waits.volume_progress,
        ATTACHMENT: waits.attachment_progress,
        DETACHMENT: waits.detachment_progress,
        COMMAND: command_progress,
    }[kind]


class Clients:
    """boto3 clients of one connection; each takes a third of a second to make, so it is kept."""

    def __init__(self, aws_conn_id: str | None) -> None:
        self._aws_conn_id = aws_conn_id
        self._made: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region_name: str | None = None) -> Any:
        """Return the client of a service; without a region, in that of the connection."""
        from imagenet_operators.run_settings import AwsClients

        key = service, region_name or ""
        if key not in self._made:
            self._made[key] = AwsClients(self._aws_conn_id)(service, region_name or None)
        return self._made[key]


def iso(moment: datetime) -> str:
    """Return a moment of AWS's in ISO 8601, with its time zone."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def begun_at(wait: Wait, ec2: Any) -> Wait:
    """Return the wait with the moment at which AWS says that its thing began; else with now.

    Raises:
        CloudNotFound: There is no such thing.
        CloudUnavailable: AWS gives no answer now.
    """
    from imagenet_etl.aws.ebs.waits import attachment_of, described_volume

    if wait.kind == SNAPSHOT:
        begun = described_snapshot(ec2, wait.ids["snapshot_id"])["StartTime"]
    else:
        volume = described_volume(ec2, wait.ids["volume_id"])
        begun = volume["CreateTime"]
        if wait.kind == ATTACHMENT:
            there = attachment_of(volume, wait.ids["instance_id"])
            begun = there.get("AttachTime", datetime.now(UTC))
    return replace(wait, begun=iso(begun))


def described_snapshot(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    """Return a snapshot as EC2 describes it.

    Raises:
        CloudNotFound: There is none of that id in the client's region.
        CloudUnavailable: AWS gives no answer now.
    """
    from imagenet_etl.aws.errors import typed_aws_errors

    with typed_aws_errors("DescribeSnapshots", snapshot_id):
        reply = ec2.describe_snapshots(SnapshotIds=[snapshot_id])
    return dict(reply["Snapshots"][0])
