"""What is watched of an S3 client while a backup works.

Source: s3transfer's ``TransferManager``, which hooks in the same way.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from s3transfer.utils import signal_not_transferring, signal_transferring

_SMALL_BYTES = 1 << 20
_CHECKSUMS = {"x-amz-checksum-crc32", "x-amz-checksum-sha256"}


class Watch:
    """Counts the retries of a client; threads may share it."""

    def __init__(self) -> None:
        self.retries = 0
        self._guard = threading.Lock()

    def note(self, parsed: dict[str, Any], **_: object) -> None:
        """Add the retries of one call, whether it went well at last or not."""
        with self._guard:
            self.retries += parsed.get("ResponseMetadata", {}).get("RetryAttempts", 0)


def send_at_once(params: dict[str, Any], **_: object) -> None:
    """Leave ``Expect: 100-continue`` out where the body costs no more than the wait for a reply."""
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes <= _SMALL_BYTES:
        params["headers"].pop("Expect", None)


def vouch_by_checksum(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Let botocore know of the checksum of the body that the request bears already.

    Over https botocore does not hash a body for its signature where a checksum, which is signed,
    vouches for it; but it knows only of those that it has taken itself, and so read every body once
    more. Over plain http it hashes the body all the same.
    Source: botocore's ``S3SigV4Auth._should_sha256_sign_payload`` and ``httpchecksum``.
    """
    if not context.get("has_streaming_input"):
        return  # the checksum of a completion is that of the object, not of the request
    for name in _CHECKSUMS & params["headers"].keys():
        algorithm = {"algorithm": name.rpartition("-")[2], "in": "header", "name": name}
        context.setdefault("checksum", {})["request_algorithm"] = algorithm


@contextmanager
def watched(client: Any) -> Iterator[Watch]:
    """Count retries, tell limited bodies when they are sent, and send small ones at once.

    Bodies with a checksum go unsigned over https.
    """
    events, watch = client.meta.events, Watch()
    hooks = (
        (events.register, "after-call.s3", watch.note),
        (events.register_first, "request-created.s3", signal_not_transferring),
        (events.register_last, "request-created.s3", signal_transferring),
        (events.register_last, "before-call.s3", send_at_once),
        (events.register, "before-call.s3", vouch_by_checksum),
    )
    # An id of its own each time: two backups may share a client.
    named = [(f"imagenet-etl-{hook[2].__name__}-{id(watch)}", *hook) for hook in hooks]
    for name, register, event, handler in named:
        register(event, handler, unique_id=name)
    try:
        yield watch
    finally:
        for name, _, event, _ in named:
            events.unregister(event, unique_id=name)
