"""How far something is, and when its time is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from imagenet_etl.aws.ebs.waits import (
    Progress,
    attachment_progress,
    check_deadline,
    detachment_progress,
    snapshot_progress,
    volume_progress,
)
from imagenet_etl.errors import CloudNotFound, SnapshotFailed, VolumeFailed


def answered(ec2: Any, call: str, name: str, item: dict[str, Any] | None) -> Any:
    """Return the client, which will answer with one resource or none."""
    stubber = Stubber(ec2)
    stubber.add_response(call, {name: [item] if item else []})
    stubber.activate()
    return ec2


def snapshot(ec2: Any, **fields: Any) -> Any:
    item = {"SnapshotId": "snap-1", **fields} if fields else None
    return answered(ec2, "describe_snapshots", "Snapshots", item)


def volume_of(ec2: Any, state: str, *attachments: tuple[str, str]) -> Any:
    items = [{"InstanceId": name, "State": told} for name, told in attachments]
    item = {"VolumeId": "vol-1", "State": state, "Attachments": items}
    return answered(ec2, "describe_volumes", "Volumes", item)


def test_pending_snapshot_tells_its_progress(ec2: Any) -> None:
    progress = snapshot_progress(snapshot(ec2, State="pending", Progress="40%"), "snap-1")
    assert not progress.done
    assert str(progress) == "snapshot snap-1 is pending (40%)"


@pytest.mark.parametrize("state", ["error", "recoverable"])
def test_failed_snapshot_tells_why(ec2: Any, state: str) -> None:
    with pytest.raises(SnapshotFailed, match=f"found {state} KMS key is disabled"):
        snapshot_progress(snapshot(ec2, State=state, StateMessage="KMS key is disabled"), "snap-1")


def test_missing_snapshot_is_named(ec2: Any) -> None:
    with pytest.raises(CloudNotFound, match="snap-1 does not exist"):
        snapshot_progress(snapshot(ec2), "snap-1")


@pytest.mark.parametrize(
    ("state", "done"), [("creating", False), ("available", True), ("in-use", True)]
)
def test_volume_can_be_used_when_it_is_available(ec2: Any, state: str, done: bool) -> None:
    assert volume_progress(volume_of(ec2, state), "vol-1").done is done


def test_failed_volume_is_told(ec2: Any) -> None:
    with pytest.raises(VolumeFailed, match="found error"):
        volume_progress(volume_of(ec2, "error"), "vol-1")


def test_deleted_volume_is_gone(ec2: Any) -> None:
    with pytest.raises(CloudNotFound, match="was deleted"):
        volume_progress(volume_of(ec2, "deleting"), "vol-1")


@pytest.mark.parametrize(("state", "done"), [("attaching", False), ("attached", True)])
def test_attachment_is_waited_for(ec2: Any, state: str, done: bool) -> None:
    client = volume_of(ec2, "in-use", ("i-1", state))
    assert attachment_progress(client, "vol-1", "i-1").done is done


def test_attachment_that_does_not_show_yet_is_waited_for(ec2: Any) -> None:
    progress = attachment_progress(volume_of(ec2, "available"), "vol-1", "i-1")
    assert (progress.done, progress.state) == (False, "available")


def test_volume_that_cannot_be_attached_is_told(ec2: Any) -> None:
    with pytest.raises(VolumeFailed, match="found error"):
        attachment_progress(volume_of(ec2, "error"), "vol-1", "i-1")


def test_busy_detachment_tells_that_it_is_mounted(ec2: Any) -> None:
    progress = detachment_progress(volume_of(ec2, "in-use", ("i-1", "busy")), "vol-1")
    assert not progress.done
    assert "unmount it" in str(progress)


def test_detachment_is_done_when_nothing_is_attached(ec2: Any) -> None:
    assert detachment_progress(volume_of(ec2, "available", ("i-1", "detached")), "vol-1").done


@pytest.mark.parametrize(
    ("done", "age_s", "raises"), [(False, 59, False), (False, 61, True), (True, 61, False)]
)
def test_deadline_is_for_what_is_not_done(done: bool, age_s: float, raises: bool) -> None:
    progress = Progress("snapshot snap-1", "pending", done, "40%")
    begun = datetime.now(UTC) - timedelta(minutes=age_s)
    if not raises:
        check_deadline(progress, begun, 3600, SnapshotFailed)
        return
    with pytest.raises(SnapshotFailed, match=r"within 1\.0 h, found pending 40% after 1\.0 h"):
        check_deadline(progress, begun, 3600, SnapshotFailed)
