"""Attach a volume to an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagenet_operators.ebs.base import Begun, EbsOperator
from imagenet_operators.ebs.links import EbsVolumeLink
from imagenet_operators.ebs.waits import ATTACHMENT

if TYPE_CHECKING:
    from airflow.sdk import Context


class EbsAttachVolumeOperator(EbsOperator):
    """Attaches a volume, under a device name that is free; does nothing where it is attached.

    Args:
        volume_id: The volume, which exists and is not being created any more.
        instance_id: The instance, in the volume's zone.
        device: Device name to ask for, such as ``/dev/sdf``; empty for the first that is free. The
            instance itself shows another one: on Nitro look below ``/dev/disk/by-id``.

    Returns:
        The device name that EC2 knows.
    """

    template_fields = (*EbsOperator.template_fields, "volume_id", "instance_id", "device")
    operator_extra_links = (EbsVolumeLink(),)

    def __init__(
        self, *, volume_id: str, instance_id: str, device: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.volume_id = volume_id
        self.instance_id = instance_id
        self.device = device

    def begin(self, context: Context) -> Begun:  # noqa: ARG002
        """Find the attachment, or begin it."""
        return attach(self, self.volume_id, self.instance_id, self.device)


def attach(operator: EbsOperator, volume_id: str, instance_id: str, device: str = "") -> Begun:
    """Find the attachment, or begin it, for an operator.

    Raises:
        StillPending: EC2 does not show it yet.
    """
    from imagenet_etl.aws.ebs.attachments import attach_volume
    from imagenet_etl.aws.ebs.waits import attachment_of, described_volume
    from imagenet_etl.errors import StillPending

    ec2 = operator.client()
    device = attach_volume(ec2, volume_id, instance_id, device=device)
    operator.show(ec2, volume_id)
    there = attachment_of(described_volume(ec2, volume_id), instance_id)
    if not there:
        # EC2 is eventually consistent: AttachVolume's answer is ahead of what is described.
        raise StillPending(
            f"the attachment of {volume_id} to {instance_id} is not described yet",
            retry_after_s=5.0,
        )
    ids = {"volume_id": volume_id, "instance_id": instance_id}
    return Begun(device, [operator.wait_for(ATTACHMENT, ec2, there["AttachTime"], **ids)])
