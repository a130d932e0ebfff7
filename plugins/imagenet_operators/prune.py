"""Remove versions that nobody keeps any longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PruneOperator(StageOperator):
    """Keeps the newest ``keep_versions`` versions; of the others it lists or removes every copy.

    Skipped when ``keep_versions`` is 0 or no version is old enough. Without the setting ``prune``
    nothing is removed: the log tells what would be, its size and what it costs a month. The latest
    version, this run's and those that other runs are at work on always stay.
    """

    stage = "prune"
    is_last = True

    def execute(self, context: Context) -> dict[str, Any]:
        """List or remove old versions."""
        from imagenet_etl.publishing import prune_old_versions

        with self.build(context) as build:
            report = prune_old_versions(build)
        for line in report.lines():
            self.log.info("%s", line)
        if not (report.versions or report.troubles):
            raise AirflowSkipException("No version is older than those that are kept")
        return {
            "removed" if report.really else "would_remove": list(report.versions),
            "usd_a_month": round(report.usd_a_month, 2),
            "troubles": [str(trouble) for trouble in report.troubles],
        }
