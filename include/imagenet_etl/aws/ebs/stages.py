"""The stages that an EBS snapshot goes through; each looks for what is there before it acts."""

from imagenet_etl.aws.ebs.copy_stage import copies_are_there, copy_snapshot_stage, why_no_copy
from imagenet_etl.aws.ebs.share_stage import (
    share_snapshot_stage,
    shares_are_there,
    why_not_shared,
)
from imagenet_etl.aws.ebs.snapshot_stage import snapshot_ebs, snapshot_is_there, why_no_snapshot

__all__ = [
    "copies_are_there",
    "copy_snapshot_stage",
    "share_snapshot_stage",
    "shares_are_there",
    "snapshot_ebs",
    "snapshot_is_there",
    "why_no_copy",
    "why_no_snapshot",
    "why_not_shared",
]
