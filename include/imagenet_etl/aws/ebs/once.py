"""Calls that must not be repeated by the SDK, and patience for what appears a little later.

CreateSnapshot, CopySnapshot and SendCommand take no idempotency token. botocore repeats a call
whose reply was lost by itself, and would so make a second snapshot. Sources: Amazon EC2 API
Reference, "Ensuring idempotency" and "Eventual consistency"; botocore, ``Endpoint._needs_retry``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import ClientError

Found = TypeVar("Found")

CREATING = {
    "ec2": ("CreateSnapshot", "CopySnapshot", "CreateVolume"),
    "ssm": ("SendCommand",),
}
"""The calls that make something; only CreateVolume takes a token, and that for a day."""

WAITS_S: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long to wait between looks for something that was just made."""

_SERVER_ERROR = 500
# EC2 answers these before it does anything, so they may be sent again.
_THROTTLED = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown")


def never_repeated(client: Any, service: str = "ec2") -> Any:
    """Return the client, which from now on sends a creating call again only when throttled.

    A lost reply and a server's error reach the caller, who looks for what was made: by its tag,
    or a command by its comment.

    Args:
        client: The client of the service.
        service: ``ec2`` or ``ssm``.
    """
    for name in CREATING[service]:
        client.meta.events.register_first(
            f"needs-retry.{service}.{name}", _stop, unique_id=f"imagenet-etl-once-{name}"
        )
    return client


def _stop(
    response: tuple[Any, dict[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    operation: Any = None,
    **_: Any,
) -> None:
    """End the call instead of having it sent again; returns when another handler may decide."""
    if caught_exception is not None:
        raise caught_exception
    if response is None:
        return
    http, parsed = response
    code = parsed.get("Error", {}).get("Code", "")
    if http.status_code >= _SERVER_ERROR and code not in _THROTTLED:
        raise ClientError(parsed, operation.name if operation is not None else "")


def looks() -> Iterator[int]:
    """Yield the number of each look, with a pause before every one but the first."""
    yield 0
    for number, pause_s in enumerate(WAITS_S, 1):
        time.sleep(pause_s)
        yield number


def found_soon(look: Callable[[], Found | None]) -> Found | None:
    """Return the first thing that a look finds, or None when all of them found nothing.

    EC2 is eventually consistent: what was just made may be missing from an answer for seconds.
    """
    for _ in looks():
        if thing := look():
            return thing
    return None
