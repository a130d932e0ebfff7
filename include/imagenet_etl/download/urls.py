"""Where an archive comes from, and what of it may be shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import ConfigError


def is_s3(source: str) -> bool:
    """Return whether a source is an object in a bucket."""
    return source.lower().startswith("s3://")


def local_source(source: str) -> Path | None:
    """Return the path of a local source, or None for a URL that has to be downloaded.

    Raises:
        ConfigError: The URL cannot be read, its scheme is not supported, or a path is relative in
            a ``file:`` URL.
    """
    try:
        parts = urlsplit(source)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # Not shown: an unescaped / or # in a password moves its rest to where nobody masks it.
        raise ConfigError(
            "a source URL cannot be read",
            expected="http://user:password@host:port/path, special characters percent-encoded",
        ) from None
    if parts.scheme in ("http", "https"):
        if not host:
            raise ConfigError(f"source {mask_url(source)!r}", expected="a URL with a host")
        return None
    if is_s3(source):
        _check_s3(source)
        return None
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute():
            raise ConfigError(f"source {mask_url(source)!r}", expected="file:///absolute/path")
        return path
    if "://" in source:
        raise ConfigError(
            f"source {mask_url(source)!r}", expected="a path, file://, s3://, http:// or https://"
        )
    return Path(source).expanduser().absolute()


def _check_s3(source: str) -> None:
    """Require bucket and key; credentials stand in the AWS connection.

    Raises:
        ConfigError: One is missing, or there is more than that.
    """
    shown = mask_url(source)
    try:
        bucket, key = parse_s3_uri(shown)
    except ConfigError:
        bucket = key = ""
    if not bucket or not key or shown != source:
        raise ConfigError(f"source {shown!r}", expected="s3://bucket/key and nothing else")


def split_digest(source: str) -> tuple[str, str]:
    """Split ``url#sha256=hex`` into the URL and the digest, which is empty when not given.

    Raises:
        ConfigError: The digest is not 64 hex digits.
    """
    base, _, fragment = source.partition("#sha256=")
    if fragment and (len(fragment) != 64 or not set(fragment.lower()) <= set("0123456789abcdef")):
        raise ConfigError(f"source {mask_url(base)!r}", expected="#sha256= and 64 hex digits")
    return base, fragment.lower()


def mask_url(url: str) -> str:
    """Return the URL without what may be a secret: user, password and query values.

    The demanded ``#sha256=`` stays: it is no secret, and it decides what is accepted.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an unreadable URL)"
    host = parts.netloc.rpartition("@")[2]
    # A parameter without a value may itself be the key.
    pairs = (item.partition("=") for item in parts.query.split("&") if item)
    query = "&".join(f"{name}=***" if equals else "***" for name, equals, _ in pairs)
    digest = parts.fragment if parts.fragment.startswith("sha256=") else ""
    return urlunsplit((parts.scheme, host, parts.path, query, digest))
