"""How far something under way at EC2 is: one question each, for whoever waits in between.

Sources: Amazon EC2 API Reference, Snapshot (pending, completed, error, recoverable, recovering),
Volume (creating, available, in-use, deleting, deleted, error) and VolumeAttachment (attaching,
attached, detaching, detached, busy). boto3's own waiters give up after ten minutes; a first
snapshot of a terabyte takes hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudNotFound, EtlError, SnapshotFailed, VolumeFailed

SNAPSHOT_DEADLINE_S = 24 * 3600.0
"""A first snapshot of a terabyte takes hours; after a day something is wrong."""

VOLUME_DEADLINE_S = 15 * 60.0
"""A volume, its attachment or its detachment takes seconds, at a bad time minutes."""

FAILED_SNAPSHOT = ("error", "recoverable")
"""States of a snapshot that cannot be used; a recoverable one lies in the recycle bin."""

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        thing: What it is about, for example ``snapshot snap-1``.
        state: Its state in EC2's words.
        done: Whether there is nothing left to wait for.
        told: Its progress for people, such as ``40%``; may be empty.
    """

    thing: str
    state: str
    done: bool
    told: str = ""

    def __str__(self) -> str:
        return f"{self.thing} is {self.state}" + (f" ({self.told})" if self.told else "")


def snapshot_progress(ec2: Any, snapshot_id: str) -> Progress:
    """Return how far a snapshot or a copy is.

    Raises:
        SnapshotFailed: It ended in an error; its ``StateMessage`` is told.
        CloudNotFound: There is none of that id in the client's region.
    """
    with typed_aws_errors("DescribeSnapshots", snapshot_id):
        reply = ec2.describe_snapshots(SnapshotIds=[snapshot_id])
    return progress_of_snapshot(_only(reply["Snapshots"], snapshot_id))


def progress_of_snapshot(snapshot: dict[str, Any]) -> Progress:
    """Return how far a described snapshot is.

    Raises:
        SnapshotFailed: It ended in an error, or lies in the recycle bin.
    """
    identifier, state = snapshot["SnapshotId"], snapshot["State"]
    if state in FAILED_SNAPSHOT:
        raise SnapshotFailed(
            f"snapshot {identifier} cannot be used",
            expected="state completed",
            found=f"{state} {snapshot.get('StateMessage', '')}".strip(),
            remedy="Mend what the message names, delete that snapshot and run again",
        )
    told = snapshot.get("Progress", "")
    return Progress(f"snapshot {identifier}", state, state == "completed", told)


def volume_progress(ec2: Any, volume_id: str) -> Progress:
    """Return how far a volume's creation is; it is done when it can be attached, or is.

    Raises:
        VolumeFailed: It ended in an error.
        CloudNotFound: There is none of that id, or it is being deleted.
    """
    volume = described_volume(ec2, volume_id)
    state = volume["State"]
    if state == "error":
        raise VolumeFailed(
            f"volume {volume_id} could not be made",
            expected="state available",
            found=state,
            remedy="EC2 tells no reason; most often the KMS key may not be used by this role, or "
            "the zone lacks room: check the key's policy, delete the volume and run again",
        )
    return Progress(f"volume {volume_id}", state, state in ("available", "in-use"))


def attachment_progress(ec2: Any, volume_id: str, instance_id: str) -> Progress:
    """Return how far a volume's attachment to an instance is; a deadline has to end it.

    A volume that shows no attachment is not attached *yet*: for seconds after AttachVolume, EC2 may
    answer with what was before.

    Raises:
        VolumeFailed: It is attached to another instance, or cannot be attached.
        CloudNotFound: There is no such volume.
    """
    volume = described_volume(ec2, volume_id)
    thing = f"attachment of {volume_id} to {instance_id}"
    if state := attachment_of(volume, instance_id).get("State", ""):
        return Progress(thing, state, state == "attached")
    others = [
        item["InstanceId"] for item in volume.get("Attachments", ()) if item["State"] != DETACHED
    ]
    if not others and volume["State"] in ("available", "in-use"):
        return Progress(thing, volume["State"], done=False, told="no attachment to be seen")
    raise VolumeFailed(
        f"volume {volume_id} is not attached to {instance_id}",
        expected="attaching or attached",
        found=f"attached to {', '.join(others)}" if others else volume["State"],
        remedy="Detach it there, or attach it again",
    )


def detachment_progress(ec2: Any, volume_id: str) -> Progress:
    """Return how far a volume's detachment is; a ``busy`` one is still mounted.

    Raises:
        CloudNotFound: There is no such volume.
    """
    volume = described_volume(ec2, volume_id)
    states = [item["State"] for item in volume.get("Attachments", ()) if item["State"] != DETACHED]
    told = "it is still mounted on the instance: unmount it there" if "busy" in states else ""
    state = states[0] if states else volume["State"]
    return Progress(f"detachment of {volume_id}", state, not states, told)


DETACHED = "detached"


def attachment_of(volume: dict[str, Any], instance_id: str) -> dict[str, Any]:
    """Return a described volume's attachment to an instance; an empty one when there is none."""
    for item in volume.get("Attachments", ()):
        if item["InstanceId"] == instance_id and item["State"] != DETACHED:
            return dict(item)
    return {}


def described_volume(ec2: Any, volume_id: str) -> dict[str, Any]:
    """Return a volume as EC2 describes it.

    Raises:
        CloudNotFound: There is none of that id, or it is being deleted.
    """
    with typed_aws_errors("DescribeVolumes", volume_id):
        reply = ec2.describe_volumes(VolumeIds=[volume_id])
    volume = _only(reply["Volumes"], volume_id)
    if volume["State"] in ("deleting", "deleted"):
        raise CloudNotFound(f"volume {volume_id} was deleted", found=volume["State"])
    return volume


def check_deadline(
    progress: Progress, begun: datetime, deadline_s: float, error: type[EtlError]
) -> None:
    """Return while there is time left, or nothing to wait for.

    Args:
        progress: How far it is.
        begun: When it began, with its time zone.
        deadline_s: How long it may take, in seconds.
        error: What to raise; ``SnapshotFailed`` or ``VolumeFailed``.

    Raises:
        EtlError: It is not done and its time is over.
    """
    age_s = (datetime.now(UTC) - begun).total_seconds()
    if progress.done or age_s <= deadline_s:
        return
    raise error(
        f"{progress.thing} did not end in time",
        expected=f"an end within {_span(deadline_s)}",
        found=f"{progress.state} {progress.told}".rstrip() + f" after {_span(age_s)}",
        remedy="Look it up in the EC2 console; the next run goes on with it if it ends after all",
    )


def _span(seconds: float) -> str:
    return f"{seconds / _HOUR_S:.1f} h" if seconds >= _HOUR_S else f"{seconds / 60:.0f} min"


def _only(items: list[dict[str, Any]], thing: str) -> dict[str, Any]:
    if not items:
        raise CloudNotFound(f"{thing} does not exist", remedy="Check its id and its region")
    return items[0]
