"""What all EBS operators share: AWS clients, and waits that hold no worker slot."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.configuration import conf
from airflow.sdk import BaseOperator, timezone
from airflow.sdk.exceptions import AirflowRescheduleException

from imagenet_etl.errors import CloudError, EtlError, SnapshotFailed, StillPending
from imagenet_operators.ebs.links import console_url
from imagenet_operators.ebs.trigger import ProgressTrigger
from imagenet_operators.ebs.waits import Clients, Wait, iso, patient_look, time_left
from imagenet_operators.errors import airflow_errors

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)
"""Airflow's own setting; where it is off no triggerer has to run."""

LONGEST_PAUSE = timedelta(minutes=1)
"""A task that comes again costs a process: what takes hours is looked at less often."""

# Source: Amazon EC2 User Guide, "Tag restrictions".
_TAG_VALUE = re.compile(r"[\w +\-=.:/@]{1,256}", re.ASCII)


@dataclass(frozen=True)
class Begun:
    """What ``EbsOperator.begin`` found or made.

    Attributes:
        result: What the task returns once nothing is left to wait for; JSON.
        waits: What is under way.
    """

    result: Any
    waits: Sequence[Wait] = ()


class EbsOperator(BaseOperator):
    """Finds what was asked for or begins it, then waits without a worker slot until it is there.

    ``begin`` is called again in every round, by a retry, and when the task is cleared. So it looks
    for what is there before it makes anything, and one call or ten leave the same.

    Args:
        aws_conn_id: The connection with AWS credentials; None for those of the machine.
        region_name: The region; None for the connection's.
        wait_for_completion: Whether to wait; else the task ends when the thing is begun.
        deferrable: Whether the triggerer waits; else the task comes again every ``poll_interval``,
            less often the longer it takes. Neither holds a worker slot.
        poll_interval: Time between two looks.
        deadline: How long it may take, counted from when AWS says that it began, or, where AWS
            lets nothing begin, from the beginning of the try.
    """

    template_fields: Sequence[str] = ("aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = DEFERRABLE,
        poll_interval: timedelta = timedelta(seconds=15),
        deadline: timedelta = timedelta(minutes=15),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.console_url = ""
        self._clients: Clients | None = None

    def begin(self, context: Context) -> Begun:
        """Find or make what was asked for."""
        raise NotImplementedError

    def finish(self, context: Context, result: Any) -> Any:  # noqa: ARG002
        """Return the task's result, now that nothing is left to wait for."""
        return result

    def execute(self, context: Context) -> Any:
        """Begin, or find what was begun; then wait, or return the result."""
        pause = self.poll_interval
        try:
            with airflow_errors():
                begun = self.begin(context)
                left = self._left(begun) if self.wait_for_completion else []
                if not left:
                    return self.finish(context, begun.result)
        except StillPending as pending:
            # AWS takes no such call now; whoever waits for that asks AWS nothing meanwhile.
            self.log.info("%s", pending)
            with airflow_errors():
                self._check_time(context, pending)
            left, pause = [], max(pause, timedelta(seconds=pending.retry_after_s))
        if self.deferrable and left:
            self.defer(trigger=self._trigger(left), method_name="resume", timeout=time_left(left))
        for wait in left:
            pause = max(pause, min(wait.age() / 10, LONGEST_PAUSE))
        self.log.info("coming again in %s", pause)
        raise AirflowRescheduleException(timezone.utcnow() + pause)

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the triggerer's wait."""
        if event["status"] != "done":
            error = EtlError.from_dict(event["error"])
            if isinstance(error, SnapshotFailed):
                # It tells the same, and marks what has failed: the cleared task begins anew.
                with suppress(EtlError):
                    self.begin(context)
            with airflow_errors():
                raise error
        return self.execute(context)

    def client(self, service: str = "ec2", region_name: str | None = None) -> Any:
        """Return a boto3 client, in the task's region unless another is given."""
        if self._clients is None:
            # Not before the connection's name was rendered.
            self._clients = Clients(self.aws_conn_id)
        return self._clients(service, region_name or self.region_name)

    def wait_for(self, kind: str, client: Any, begun: datetime, **ids: str) -> Wait:
        """Return a wait of this task's patience."""
        return Wait(
            kind=kind,
            ids=ids,
            region_name=client.meta.region_name,
            begun=iso(begun),
            deadline_s=self.deadline.total_seconds(),
            aws_conn_id=self.aws_conn_id,
        )

    def show(self, ec2: Any, identifier: str) -> None:
        """Let the task's link lead to a volume or snapshot of the client's region."""
        self.console_url = console_url(ec2, identifier)

    def _left(self, begun: Begun) -> list[Wait]:
        left = []
        for wait in begun.waits:
            progress = patient_look(wait, self.client(wait.service, wait.region_name))
            if not progress.done:
                self.log.info("%s", progress)
                left.append(wait)
        return left

    def _check_time(self, context: Context, pending: StillPending) -> None:
        ti = context["ti"]
        # AWS does not tell since when it has been refusing.
        since = ti.get_first_reschedule_date(context) or ti.start_date
        if timezone.utcnow() - since > self.deadline:
            raise CloudError(
                pending.what,
                expected=f"an end within {self.deadline}",
                found=pending.found,
                remedy=pending.remedy or "Look in the EC2 console for what holds it up",
            )

    def _trigger(self, left: list[Wait]) -> ProgressTrigger:
        return ProgressTrigger(
            [wait.to_dict() for wait in left], self.poll_interval.total_seconds()
        )

    def on_kill(self) -> NoReturn:
        """Stop at once; what was begun at AWS goes on, and the next try finds it."""
        from imagenet_etl.errors import Cancelled

        raise Cancelled("the task was stopped; what was begun at AWS goes on")


def as_list(value: Sequence[str] | str) -> list[str]:
    """Return a list that was given as such, as text with commas, or by a template.

    A template gives the text of a list, unless the DAG renders templates as native objects.
    """
    if not isinstance(value, str):
        return list(value)
    return [item for item in re.split(r"[\s,\[\]()'\"]+", value) if item]


def name_of_task(context: Context) -> str:
    """Return what names this task of this run, and its copy when it is mapped: a tag's value.

    It is the same for every try, so whoever tags a thing with it finds it again.
    """
    ti = context["ti"]
    name = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}"
    if ti.map_index >= 0:
        name += f"/{ti.map_index}"
    return name if _TAG_VALUE.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
