"""Parse ``s3://bucket/prefix``."""

from __future__ import annotations

import re

from imagenet_etl.errors import ConfigError

# Bucket names: Amazon S3 User Guide, "General purpose bucket naming rules".
_URI = re.compile(r"s3://(?![^/]*\.\.)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and prefix; the prefix has no slash at either end and may be empty.

    Raises:
        ConfigError: The text is not an S3 URI.
    """
    match = _URI.fullmatch(uri)
    if not match:
        raise ConfigError(
            f"{uri!r} is not an S3 URI",
            expected="s3://bucket/prefix",
            remedy="Correct the setting, or leave it empty to skip the backup",
        )
    return match[1], (match[2] or "").strip("/")
