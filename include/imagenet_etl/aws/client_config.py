"""How AWS clients are set up, wherever they come from.

Source: botocore, "Retries" guide: ``standard`` and ``adaptive`` wait for up to 20 s between tries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.config import Config

MAX_CONNECTIONS = 64
"""The most requests that a setting may ask to have under way at once."""

_ATTEMPTS = 8
_CONNECT_S = 10
_READ_S = 60


def client_config(service: str) -> Config:
    """Return botocore's configuration of a client for a service such as ``s3``.

    The requests of a backup slow down together under 503 SlowDown, and none waits for a connection.
    The SDK's own AWS_MAX_ATTEMPTS goes before the number of attempts said here.
    """
    from botocore.config import Config  # noqa: PLC0415 - slow to import, for every packing process

    retries: dict[str, str | int] = {"mode": "adaptive" if service == "s3" else "standard"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _ATTEMPTS
    return Config(
        retries=retries,
        max_pool_connections=MAX_CONNECTIONS + 2,
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        tcp_keepalive=True,
    )
