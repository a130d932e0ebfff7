"""Write the records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from imagenet_operators.metrics import tell
from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_etl.stage import Outcome


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
        from imagenet_etl.mapped import run_pack_group
        from imagenet_etl.selection import parse_group
        from imagenet_etl.stage import counts_in_words

        start = time.monotonic()
        with self.build(context) as build:
            counts = run_pack_group(build, parse_group(self.group))
        self.log.info("pack %s done: %s", self.group, counts_in_words(counts))
        bad = counts["quarantined"]
        figures = {"images_packed": counts["images"] - bad, "images_quarantined": bad}
        tell(build.facts.name, self.stage, figures, time.monotonic() - start)
        return {"stage": self.stage, "group": self.group, "counts": counts}

    def figures(self, outcome: Outcome) -> dict[str, int]:
        """Return what is told as metrics; of images only what no group has told."""
        figures = super().figures(outcome)
        if any(self._packs(name) for name in self.upstream_task_ids):
            return {"bytes_packed": figures["bytes_packed"]}
        return figures

    def _packs(self, task_id: str) -> bool:
        task = self.dag.get_task(task_id)
        # A mapped task shows its operator's class by another name.
        kind = getattr(task, "operator_class", type(task))
        return isinstance(kind, type) and issubclass(kind, PackOperator)
