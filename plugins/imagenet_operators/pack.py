"""Write the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PackOperator(StageOperator):
    """Packs segments in a process pool of its own; a retry goes on with the unfinished ones.

    Args:
        group: Which share of the segments, as ``I/N``, for a task that is mapped over them; another
            PackOperator without a group then completes the dataset. Empty for everything.
    """

    stage = "pack"

    def __init__(self, *, group: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group

    def execute(self, context: Context) -> dict[str, Any]:
        """Pack."""
        if not self.group:
            return super().execute(context)
        from imagenet_etl.pipeline import run_pack_group
        from imagenet_etl.selection import parse_group
        from imagenet_etl.stage import counts_in_words

        with self.build(context) as build:
            counts = run_pack_group(build, parse_group(self.group))
        self.log.info("pack %s done: %s", self.group, counts_in_words(counts))
        return {"stage": self.stage, "group": self.group, "counts": counts}
