"""Whether everything that a backup's commit mark vouches for is in the bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imagenet_etl.aws.s3_bucket import Bucket
from imagenet_etl.aws.s3_ledger import Row
from imagenet_etl.aws.s3_plan import GroupPlan
from imagenet_etl.aws.s3_sorted import LinedUp
from imagenet_etl.errors import CloudUnavailable


def all_there(bucket: Bucket, prefix: str, rows: Iterable[Row], count: int) -> bool:
    """Return whether a listing shows what was noted, by size and ETag, and that is so many objects.

    It costs a request for each thousand objects.
    """
    there = LinedUp(bucket.listing(prefix))
    left = count
    for key, row in rows:
        if there.get(key) != (row.size, row.etag):
            return False
        left -= 1
    return not left


def check_vouched(bucket: Bucket, work: GroupPlan, check_wanted: Callable[[], object]) -> None:
    """See that nobody removed a version while its commit mark was on its way.

    A prune elsewhere looks for the mark before it deletes. One that looked before the mark arrived
    either is still at it, which ``check_wanted`` tells, or has ended, and the listing tells.

    Raises:
        CloudUnavailable: Somebody did; the next run lists again and sends what is gone.
    """
    check_wanted()
    if not all_there(bucket, work.group.prefix, work.ledger, len(work.lacking)):
        raise CloudUnavailable(
            f"{bucket.uri}/{work.group.prefix} has lost objects while its manifest was written",
            remedy="Run again: they are sent anew; is a prune or a lifecycle rule removing them?",
        )
