"""Copy a version's snapshot to other regions, and share it with other accounts."""

from __future__ import annotations

from datetime import timedelta

from imagenet_operators.stage import StageOperator


class CopyVersionSnapshotOperator(StageOperator):
    """Puts a copy of the version's snapshot into each region that the form names.

    Skipped when none is named. Like the snapshot itself a copy is looked up by its tags before it
    is made, and waited for without a worker slot.
    """

    stage = "copy_snapshot"
    poll_interval = timedelta(minutes=1)


class ShareVersionSnapshotOperator(StageOperator):
    """Lets other accounts use the version's snapshot and its copies.

    Skipped when no account is named; fails before any call unless the licence box was ticked, and
    for snapshots under a key that others cannot use.
    """

    stage = "share_snapshot"
