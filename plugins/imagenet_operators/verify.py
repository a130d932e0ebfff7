"""Read everything back and publish the version."""

from __future__ import annotations

from imagenet_operators.stage import SLICE_S, StageOperator


class VerifyOperator(StageOperator):
    """Compares every byte with its digest, decodes a sample, and publishes the version.

    A large one is read in slices: after ``slice_s`` a task begins no other file, notes those that
    are whole, and comes back for the rest.
    """

    stage = "verify"
    slice_s = SLICE_S
