"""Read everything back and publish the version."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class VerifyOperator(StageOperator):
    """Compares every byte with its digest, decodes a sample, and publishes the version."""

    stage = "verify"
