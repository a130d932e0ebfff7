"""What S3 and servers like it answer instead of doing what was asked.

A HEAD has no body, so its error's code is the HTTP status.
Source: Amazon S3 API Reference, "Error responses".
"""

from __future__ import annotations

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
"""There is no such object."""
TAKEN = frozenset({"412", "PreconditionFailed"})
"""The key has another object than the one asked for, or has one at all."""
CONFLICT = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
"""Another write or removal of the key is under way."""
MISMATCH = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
)
"""What arrived is not what was sent."""
NO_UPLOAD = frozenset({"404", "NoSuchUpload"})
"""The multipart upload was completed or aborted."""
