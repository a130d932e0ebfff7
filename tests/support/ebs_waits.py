"""What tests of waits for EBS share: a task's context, snapshots in other states, a triggerer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from imagenet_operators.ebs import EbsTakeSnapshotOperator
from imagenet_operators.ebs.trigger import ProgressTrigger
from imagenet_operators.ebs.waits import SNAPSHOT, Wait

COMPLETED = b"<status>completed</status>"


def context_of(age: timedelta = timedelta(0), rescheduled: bool = False) -> dict[str, Any]:
    """Return what the operators read of the context of a task that began so long ago."""
    now = datetime.now(UTC)
    ti = SimpleNamespace(
        dag_id="backups", run_id="run-1", task_id="task", map_index=-1,
        start_date=now if rescheduled else now - age,
        get_first_reschedule_date=lambda _: now - age if rescheduled else None,
    )  # fmt: skip
    return {"ti": ti}


CONTEXT = context_of()


def becomes(state: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(COMPLETED, b"<status>" + state + b"</status>")


def failed(body: bytes) -> bytes:
    """Rewrite a reply so that every snapshot has ended in an error."""
    told = b"<statusMessage>KMS says no</statusMessage>"
    return body.replace(COMPLETED, b"<status>error</status>" + told)


def operator(volume: str, **arguments: Any) -> EbsTakeSnapshotOperator:
    return EbsTakeSnapshotOperator(task_id="task", volume_id=volume, **arguments)


def trigger_for(snapshot: dict[str, Any], deadline_s: float = 3600.0) -> ProgressTrigger:
    begun, ids = snapshot["StartTime"].isoformat(), {"snapshot_id": snapshot["SnapshotId"]}
    return ProgressTrigger([Wait(SNAPSHOT, ids, "us-east-1", begun, deadline_s).to_dict()], 0.01)


def event_of(trigger: ProgressTrigger) -> dict[str, Any]:
    """Run a trigger as the triggerer does: rebuilt from what it was stored as."""
    from airflow.sdk._shared.module_loading import import_string

    path, arguments = trigger.serialize()
    rebuilt = import_string(path)(**json.loads(json.dumps(arguments)))

    async def first() -> dict[str, Any]:
        async for event in rebuilt.run():
            return dict(event.payload)
        raise AssertionError("a trigger ends with an event")

    return asyncio.run(asyncio.wait_for(first(), 20))
