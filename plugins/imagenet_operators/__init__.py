"""Thin Airflow operators over ``imagenet_etl``: context in, stage called, outcome translated."""

from imagenet_operators.back_up_to_s3 import BackUpToS3Operator
from imagenet_operators.download import DownloadOperator
from imagenet_operators.ebs_snapshot import EbsSnapshotOperator
from imagenet_operators.filter_classes import FilterClassesOperator
from imagenet_operators.pack import PackOperator
from imagenet_operators.plan_shards import PlanShardsOperator
from imagenet_operators.prune import PruneOperator
from imagenet_operators.publish import PublishOperator
from imagenet_operators.report import ReportOperator
from imagenet_operators.restructure_val import RestructureValOperator
from imagenet_operators.split_val import SplitValOperator
from imagenet_operators.untar import UntarOperator
from imagenet_operators.verify import VerifyOperator
from imagenet_operators.version_snapshots import (
    CopyVersionSnapshotOperator,
    ShareVersionSnapshotOperator,
)

__all__ = [
    "BackUpToS3Operator",
    "CopyVersionSnapshotOperator",
    "DownloadOperator",
    "EbsSnapshotOperator",
    "FilterClassesOperator",
    "PackOperator",
    "PlanShardsOperator",
    "PruneOperator",
    "PublishOperator",
    "ReportOperator",
    "RestructureValOperator",
    "ShareVersionSnapshotOperator",
    "SplitValOperator",
    "UntarOperator",
    "VerifyOperator",
]
