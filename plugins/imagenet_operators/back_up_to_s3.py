"""Back a published version up to S3."""

from __future__ import annotations

from imagenet_operators.stage import SLICE_S, StageOperator


class BackUpToS3Operator(StageOperator):
    """Uploads what the bucket does not hold yet, create-only, with the manifest last.

    Skipped when no S3 URI is set. A rerun finds what is there by key, size and stored SHA-256. A
    large one goes in slices: after ``slice_s`` a task begins no other file and comes back for them.
    """

    stage = "back_up_to_s3"
    slice_s = SLICE_S
