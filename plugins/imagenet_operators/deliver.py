"""The last tasks of every dataset's DAG: what becomes of a verified version."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias, chain, task_group

from imagenet_operators.back_up_to_s3 import BackUpToS3Operator
from imagenet_operators.dag import CALLING, FETCHING
from imagenet_operators.ebs_snapshot import EbsSnapshotOperator
from imagenet_operators.prune import PruneOperator
from imagenet_operators.publish import PublishOperator
from imagenet_operators.version_snapshots import (
    CopyVersionSnapshotOperator,
    ShareVersionSnapshotOperator,
)


@task_group(prefix_group_id=False)
def deliver(asset: Asset | AssetAlias) -> None:
    """Back the version up, snapshot, copy and share its volume, announce it, let old ones go.

    Args:
        asset: What other DAGs are scheduled on.
    """
    backup = BackUpToS3Operator(task_id="back_up_to_s3", **FETCHING)
    snapshot = EbsSnapshotOperator(task_id="snapshot_ebs", **CALLING)
    copies = CopyVersionSnapshotOperator(task_id="copy_snapshot", **CALLING)
    share = ShareVersionSnapshotOperator(task_id="share_snapshot", **CALLING)
    publish = PublishOperator(task_id="publish", asset=asset, **CALLING)
    chain(snapshot, copies, share, publish)
    chain(backup, publish, PruneOperator(task_id="prune", **CALLING))
