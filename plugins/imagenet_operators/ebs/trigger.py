"""Wait in the triggerer, which keeps no worker slot busy and needs no aiobotocore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from imagenet_etl.errors import EtlError, TransientError
from imagenet_operators.ebs.waits import Clients, Wait, look

if TYPE_CHECKING:
    from imagenet_etl.aws.ebs.waits import Progress

MAX_UNANSWERED = 10
"""After so many looks in a row without an answer the task itself is to fail, and be retried."""


class ProgressTrigger(BaseTrigger):
    """Looks at what is under way until all of it is done, fails, or is over its deadline.

    The event is ``{"status": "done"}`` or ``{"status": "failed", "error": ...}``, the error as
    ``EtlError.to_dict`` gives it. All it knows are plain values and moments of AWS's, so a
    triggerer that starts anew goes on where the last one was.

    Args:
        waits: What is waited for, each as ``Wait.to_dict`` gives it.
        poll_s: Seconds between two looks.
    """

    def __init__(self, waits: list[dict[str, Any]], poll_s: float) -> None:
        super().__init__()
        self.waits = waits
        self.poll_s = poll_s
        self._clients: dict[str | None, Clients] = {}
        self._told: dict[str, str] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where the class is and what to make it of."""
        return (
            f"{type(self).__module__}.{type(self).__name__}",
            {"waits": self.waits, "poll_s": self.poll_s},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, tell what has changed, sleep."""
        left = [Wait.from_dict(values) for values in self.waits]
        unanswered = 0
        while True:
            try:
                left = [wait for wait in left if not await self._done(wait)]
                unanswered = 0
            except TransientError as error:
                unanswered += 1
                self.log.warning("%s (%s in a row)", error, unanswered)
                if unanswered >= MAX_UNANSWERED:
                    yield _failed(error)
                    return
            except EtlError as error:
                yield _failed(error)
                return
            if not left:
                yield TriggerEvent({"status": "done"})
                return
            await asyncio.sleep(self.poll_s)

    async def _done(self, wait: Wait) -> bool:
        # boto3 blocks; a thread of its own keeps the triggerer's other triggers going.
        progress = await asyncio.to_thread(self._look, wait)
        if self._told.get(progress.thing) != str(progress):
            self._told[progress.thing] = str(progress)
            self.log.info("%s", progress)
        return progress.done

    def _look(self, wait: Wait) -> Progress:
        clients = self._clients.setdefault(wait.aws_conn_id, Clients(wait.aws_conn_id))
        return look(wait, clients(wait.service, wait.region_name))


def _failed(error: EtlError) -> TriggerEvent:
    return TriggerEvent({"status": "failed", "error": error.to_dict()})
