"""Fetch and verify the publisher's archives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from imagenet_operators.metrics import tell
from imagenet_operators.stage import SLICE_S, StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class DownloadOperator(StageOperator):
    """Downloads what is missing, resuming where an earlier try stopped, and checks size and digest.

    It works in slices: after ``slice_s`` a task makes way, keeping what has arrived, and comes back
    after a pause. That counts as no failure, so days of download take no long task and no retry.

    As the first task of a run it also resolves the settings and freezes them for all others.

    Args:
        archive: The archive to see to, for a task that is mapped over several; who finds all of
            them verified completes the stage. Empty for all archives, one after the other.
    """

    stage = "download"
    is_first = True
    slice_s = SLICE_S

    def __init__(self, *, archive: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.archive = archive

    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch or verify."""
        if not self.archive:
            return super().execute(context)
        from imagenet_etl.mapped import run_download_of

        start = time.monotonic()
        with self.build(context) as build:
            note, fetched_bytes = run_download_of(build, self.archive)
        self.log.info("download %s: %s bytes", self.archive, f"{note.archive.size:,}")
        figures = {"bytes_fetched": fetched_bytes}
        tell(build.facts.name, self.stage, figures, time.monotonic() - start)
        return {"stage": self.stage, "archive": note.archive.name, "bytes": note.archive.size}
