"""What stages have done, as Airflow metrics: StatsD or OpenTelemetry, as the site has configured.

Names and tags stand in ``docs/operations.md``. StatsD itself knows no tags; Airflow adds them where
``[metrics] statsd_influxdb_enabled`` or Datadog is on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagenet_etl.receipts import Receipt

PREFIX = "imagenet_etl"
DURATION = f"{PREFIX}.stage_duration"

log = logging.getLogger(__name__)


def figures_of(receipt: Receipt) -> dict[str, int]:
    """Return what a stage has done, by the metric's name, as its receipt tells."""
    counts, facts = receipt.counts, receipt.facts
    if receipt.stage == "download":
        return {"bytes_fetched": facts["bytes_fetched"]}
    if receipt.stage == "pack":
        return {
            "images_packed": counts["packed"],
            "images_quarantined": counts["quarantined"],
            "bytes_packed": sum(output.size for output in receipt.outputs),
        }
    if receipt.stage == "back_up_to_s3":
        return {"bytes_backed_up": facts["report"]["sent_bytes"]}
    return {}


def tell(
    dataset: str,
    stage: str,
    figures: dict[str, int] | Callable[[], dict[str, int]],
    seconds: float | None = None,
) -> None:
    """Add to the counters of a dataset's stage; a trouble with metrics never fails a task.

    Args:
        dataset: The dataset's name, a tag.
        stage: The stage's name, a tag.
        figures: What to add, by the metric's name, or what returns it; nothing is told of what
            is 0.
        seconds: How long a task was at work on it.
    """
    tags = {"dataset": dataset, "stage": stage}
    try:
        from airflow.sdk.observability import stats

        for name, value in (figures() if callable(figures) else figures).items():
            if value:
                stats.incr(f"{PREFIX}.{name}", value, tags=tags)
        if seconds is not None:
            stats.timing(DURATION, timedelta(seconds=seconds), tags=tags)
    except Exception as trouble:  # noqa: BLE001 - the data is there, whoever cannot be told of it
        log.warning("metrics of %s could not be told: %s", stage, trouble)
