"""EBS for any DAG: snapshots, copies, shares, volumes, attachments, and waits for them.

They follow the conventions of Airflow's Amazon provider, which has nothing for EBS, and know
nothing of ImageNet. ``docs/ebs_operators.md`` shows each in use.
"""

from imagenet_operators.ebs.attach_volume import EbsAttachVolumeOperator
from imagenet_operators.ebs.copy_snapshot import EbsCopySnapshotOperator
from imagenet_operators.ebs.create_volume import EbsCreateVolumeOperator
from imagenet_operators.ebs.sensors import EbsAttachmentSensor, EbsSnapshotSensor, EbsVolumeSensor
from imagenet_operators.ebs.share_snapshot import EbsShareSnapshotOperator
from imagenet_operators.ebs.take_snapshot import EbsTakeSnapshotOperator

__all__ = [
    "EbsAttachVolumeOperator",
    "EbsAttachmentSensor",
    "EbsCopySnapshotOperator",
    "EbsCreateVolumeOperator",
    "EbsShareSnapshotOperator",
    "EbsSnapshotSensor",
    "EbsTakeSnapshotOperator",
    "EbsVolumeSensor",
]
