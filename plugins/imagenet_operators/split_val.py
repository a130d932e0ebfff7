"""Draw validation images."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class SplitValOperator(StageOperator):
    """Draws the same number of validation images of every class; skipped when that is none."""

    stage = "split_val"
