"""Decide where every record goes."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class PlanShardsOperator(StageOperator):
    """Shuffles each split by the seed and cuts it into shards and segments."""

    stage = "plan_shards"
