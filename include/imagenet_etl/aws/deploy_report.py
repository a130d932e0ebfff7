"""What a deployment has left where, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from imagenet_etl.aws.deployment import Deployment
from imagenet_etl.aws.ebs.waits import attachment_of

_CHECKED = {
    "none": "not asked for",
    "fast": "names and sizes are those of the manifest",
    "full": "every byte was read and is the manifest's",
}


def report(deployment: Deployment, volume: Mapping[str, Any], begun: datetime) -> str:
    """Return the text for a person.

    Args:
        deployment: What was asked for.
        volume: The volume as EC2 describes it.
        begun: When the run began, with its time zone.
    """
    took_s = (datetime.now(UTC) - begun).total_seconds()
    device = attachment_of(dict(volume), deployment.instance_id).get("Device", "")
    mode = "read-only" if deployment.read_only else "read and write"
    identifier, region = volume["VolumeId"], deployment.region
    lines = {
        "Data": f"{deployment.folder} on {deployment.instance_id}",
        "Dataset": f"{deployment.dataset}, version {deployment.version}",
        "Manifest": f"SHA-256 {deployment.manifest_sha256 or 'unknown'}",
        "Mounted": f"{deployment.mount_point}, {mode}",
        "Verified": _CHECKED[deployment.verify],
        "Volume": f"{identifier}, {volume['Size']} GiB {volume['VolumeType']} in "
        f"{deployment.availability_zone}, attached as {device}, from {deployment.snapshot_id}",
        "Ends": "with the instance" if deployment.delete_on_termination else "when you delete it",
        "Took": f"{took_s:,.0f} s since the run began",
    }
    width = max(map(len, lines))
    return "\n".join(
        [
            *(f"{name:<{width}}  {text}" for name, text in lines.items()),
            "",
            "The volume costs money until it is deleted. When it is no longer needed:",
            f"  sudo umount {deployment.mount_point}    # on the instance",
            f"  sudo sed -i '{_fstab_line(deployment.mount_point)}d' /etc/fstab    # there, too",
            f"  aws ec2 detach-volume --region {region} --volume-id {identifier}",
            f"  aws ec2 wait volume-available --region {region} --volume-ids {identifier}",
            f"  aws ec2 delete-volume --region {region} --volume-id {identifier}",
        ]
    )


def _fstab_line(mount_point: str) -> str:
    """Return sed's address of the line that mounts the volume at boot."""
    place = mount_point.replace(".", r"\.")
    return rf"\| {place} .*x-imagenet-etl|"
