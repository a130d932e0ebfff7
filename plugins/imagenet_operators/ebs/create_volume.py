"""Create a volume, empty or from a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import timezone

from imagenet_operators.ebs.base import Begun, EbsOperator, name_of_task
from imagenet_operators.ebs.links import EbsVolumeLink
from imagenet_operators.ebs.waits import VOLUME

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_etl.aws.ebs.volumes import VolumeRequest


class EbsCreateVolumeOperator(EbsOperator):
    """Creates a volume, once for each ``name``.

    The name goes onto the volume as a tag, by which it is found for as long as it exists. A call
    whose reply was lost is told from a new one by the name and what was asked for.

    Args:
        availability_zone: Where; a volume can only be attached in its own zone.
        snapshot_id: What it is made from; empty for an empty volume.
        size_gib: Its size; 0 for the snapshot's.
        volume_type: EBS volume type.
        iops: I/O operations a second; 0 for the type's own.
        throughput_mib_s: MiB a second, for gp3; 0 for its own.
        initialization_mib_s: Rate at which EBS loads the snapshot, at a price; 0 for as it is read.
        kms_key: Key that encrypts it; empty for the snapshot's, or the account's setting.
        tags: More tags.
        name: What tells it from others; empty for this task of this run.

    Returns:
        The volume's id.
    """

    template_fields = (
        *EbsOperator.template_fields, "availability_zone", "snapshot_id", "size_gib", "volume_type",
        "iops", "throughput_mib_s", "initialization_mib_s", "kms_key", "tags", "name",
    )  # fmt: skip
    operator_extra_links = (EbsVolumeLink(),)

    def __init__(
        self,
        *,
        availability_zone: str,
        snapshot_id: str = "",
        size_gib: int | str = 0,
        volume_type: str = "gp3",
        iops: int | str = 0,
        throughput_mib_s: int | str = 0,
        initialization_mib_s: int | str = 0,
        kms_key: str = "",
        tags: dict[str, str] | None = None,
        name: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.availability_zone = availability_zone
        self.snapshot_id = snapshot_id
        self.size_gib = size_gib
        self.volume_type = volume_type
        self.iops = iops
        self.throughput_mib_s = throughput_mib_s
        self.initialization_mib_s = initialization_mib_s
        self.kms_key = kms_key
        self.tags = tags
        self.name = name

    def begin(self, context: Context) -> Begun:
        """Find the volume of that name, or create it."""
        from imagenet_etl.aws.ebs.tags import DEPLOYMENT
        from imagenet_etl.aws.ebs.volumes import create_volume
        from imagenet_etl.aws.ebs.waits import described_volume

        name = self.name or name_of_task(context)
        ec2 = self.client()
        request = self._request({DEPLOYMENT: name})
        # Runs that ask for one name at the same time are to be led by EC2's token to one volume,
        # those of later hours not past all that was made and deleted today.
        salt = f"{timezone.utcnow():%Y-%m-%dT%H}" if self.name else name_of_task(context)
        volume_id = create_volume(ec2, request, name, salt=salt)
        self.show(ec2, volume_id)
        created = described_volume(ec2, volume_id)["CreateTime"]
        return Begun(volume_id, [self.wait_for(VOLUME, ec2, created, volume_id=volume_id)])

    def _request(self, own_tags: dict[str, str]) -> VolumeRequest:
        from imagenet_etl.aws.ebs.volumes import VolumeRequest

        return VolumeRequest(
            availability_zone=self.availability_zone,
            snapshot_id=self.snapshot_id,
            size_gib=int(self.size_gib),
            volume_type=self.volume_type,
            iops=int(self.iops),
            throughput_mib_s=int(self.throughput_mib_s),
            initialization_mib_s=int(self.initialization_mib_s),
            kms_key=self.kms_key,
            tags=(self.tags or {}) | own_tags,
        )
