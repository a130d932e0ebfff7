"""Decide where every record goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanShardsOperator(StageOperator):
    """Shuffles each split by the seed and cuts it into shards and segments.

    Args:
        in_groups: Return the groups that a PackOperator is to be mapped over, as ``I/N``. The task
            is then skipped only when nothing is left to pack, whether it had to plan or not.
    """

    stage = "plan_shards"

    def __init__(self, *, in_groups: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.in_groups = in_groups

    def execute(self, context: Context) -> Any:
        """Plan."""
        if not self.in_groups:
            return super().execute(context)
        from imagenet_etl.mapped import groups_to_pack
        from imagenet_etl.pipeline import run_stage

        with self.build(context) as build:
            outcome = run_stage(build, self.stage)
            groups = groups_to_pack(build)
        if not groups:
            raise AirflowSkipException(f"Nothing to do, all is packed: {outcome.told()}")
        self.log.info("%s: %s, packed in %s groups", self.stage, outcome.told(), len(groups))
        return groups
