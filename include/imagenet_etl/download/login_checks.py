"""What a login may hold; no message tells any of it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from imagenet_etl.errors import ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_OURS = {"host", "range", "if-range", "accept-encoding", "connection", "transfer-encoding",
         "content-length"}  # fmt: skip


def host_of(text: str) -> str:
    """Return the host, and the port where one is given, of a host or a URL.

    Raises:
        ConfigError: It is neither.
    """
    if not text:
        return ""
    try:
        parts = urlsplit(text.strip() if "://" in text else f"//{text.strip()}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    # Python's own reading drops line breaks.
    if not host or not text.isascii() or not text.isprintable() or " " in host:
        raise ConfigError("host of the login is unreadable", expected="such as image-net.org")
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def check_texts(name: str, pairs: Any) -> None:
    """Require names with texts.

    Raises:
        ConfigError: There is something else.
    """
    if not isinstance(pairs, dict) or not all(
        isinstance(text, str) for pair in pairs.items() for text in pair
    ):
        raise ConfigError(f"{name} of the login are unreadable", expected="names with texts")


def check_cookie(cookie: str) -> None:
    """Require a value that a header can carry.

    Raises:
        ConfigError: It has line breaks or characters that are not ASCII.
    """
    _check_value("cookie", cookie)


def check_headers(headers: dict[str, str], taken: set[str]) -> None:
    """Require headers that can be sent and that the download leaves free.

    Args:
        headers: Values by name.
        taken: Names, in small letters, that another field of the login fills.

    Raises:
        ConfigError: One of them is not.
    """
    seen = set(taken)
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            # Not told: whoever mixes name and value up has put the key here.
            raise ConfigError("headers of the login hold a malformed name", expected="X-Some-Name")
        if name.lower() in _OURS:
            raise ConfigError(f"header {name} of the login is set by the download itself")
        if name.lower() in seen:
            raise ConfigError(f"header {name} of the login is given twice")
        seen.add(name.lower())
        _check_value(f"header {name}", value)


def _check_value(field: str, value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"{field} of the login cannot be sent",
            expected="ASCII characters without line breaks",
            remedy="Copy it again; its value is not shown here",
        )
