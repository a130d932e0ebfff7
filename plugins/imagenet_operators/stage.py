"""What all operators share: the run's settings and lock, and the call of a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator, timezone
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from imagenet_etl.errors import Cancelled, StillPending
from imagenet_operators.errors import airflow_errors
from imagenet_operators.metrics import figures_of, tell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_etl.build import Build
    from imagenet_etl.stage import Outcome


SLICE_S = 1500.0
"""What takes hours goes on for so long at a time, and makes way within half an hour.

That holds for fetching, for the listing of a tar of class tars, for reading a dataset back and for
sending it. It does not for the pass over a finished file that proves its digest, for unpacking, nor
within one file that is read back or sent: none of these has a place to go on from.
"""


class StageOperator(BaseOperator):
    """Runs one stage of ``imagenet_etl.pipeline`` and returns a short summary as XCom.

    A stage whose receipt is valid is skipped. Later tasks find what they need through receipts.

    Args:
        dataset: The dataset's name.
        aws_conn_id: The connection with AWS credentials.
        http_conn_id: The connection with the login at the publisher's; it need not exist.
    """

    stage: ClassVar[str]
    is_first: ClassVar[bool] = False  # it may resolve and freeze the run's settings
    is_last: ClassVar[bool] = False  # it gives the run's lock back
    slice_s: ClassVar[float | None] = None  # how long the task goes on before it comes again
    poll_interval = timedelta(seconds=5)

    def __init__(
        self,
        *,
        dataset: str,
        aws_conn_id: str = "aws_default",
        http_conn_id: str = "imagenet_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.aws_conn_id = aws_conn_id
        self.http_conn_id = http_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the stage, unless its result is there already."""
        from imagenet_etl.pipeline import run_stage

        with self.build(context) as build:
            outcome = run_stage(build, self.stage)
        if outcome.idle:
            raise AirflowSkipException(f"Skipped: {outcome.idle}")
        if outcome.reused:
            raise AirflowSkipException(f"Nothing to do, the receipt is valid: {outcome.told()}")
        self.log.info("%s done in %.1f s: %s", self.stage, outcome.receipt.seconds, outcome.told())
        figures = partial(self.figures, outcome)  # called where trouble fails no task
        tell(build.facts.name, self.stage, figures, outcome.receipt.seconds)
        return self.summary(outcome)

    def figures(self, outcome: Outcome) -> dict[str, int]:
        """Return what is told as metrics, by name."""
        return figures_of(outcome.receipt)

    def summary(self, outcome: Outcome) -> dict[str, Any]:
        """Return what the task leaves as XCom."""
        receipt = outcome.receipt
        return {"stage": self.stage, "digest": receipt.stage_digest, "counts": receipt.counts}

    @contextmanager
    def build(self, context: Context) -> Iterator[Build]:
        """Give the run's build, owning the dataset version.

        Raises:
            AirflowRescheduleException: What was begun goes on elsewhere, or this go's time is up.
        """
        from imagenet_operators.run_settings import build_for

        more_tries = (ti := context["ti"]).try_number <= ti.max_tries
        start, dataset = time.monotonic(), self.dataset
        keep = {"hand_on": not self.is_last, "will_retry": more_tries}
        try:
            with airflow_errors(), build_for(self, context).locked(**keep) as build:
                dataset = build.facts.name  # another release has another name
                yield build
        except StillPending as pending:
            # The task gives its worker back and comes again: neither a failure nor a try.
            pause = max(self.poll_interval, timedelta(seconds=pending.retry_after_s))
            self.log.info("%s; going on in %s", pending, pause)
            if self.slice_s is not None:
                tell(dataset, self.stage, {}, time.monotonic() - start)
            raise AirflowRescheduleException(timezone.utcnow() + pause) from None

    def on_kill(self) -> NoReturn:
        """Stop at once; Airflow calls this from its SIGTERM handler, in the main thread."""
        raise Cancelled("the task was stopped; finished work is kept for its next try")
