"""What a publisher's site asks for, and to whom it may be told."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from imagenet_etl.download.login_checks import check_cookie, check_headers, check_texts, host_of
from imagenet_etl.errors import ConfigError

VARIABLES = ("IMAGENET_USER and IMAGENET_ACCESS_KEY, IMAGENET_COOKIE, IMAGENET_HEADERS or "
             "IMAGENET_QUERY")  # fmt: skip
BY_HAND = "or download it by hand and pass it with --source"
_SWITCH = {"": False, "0": False, "false": False, "no": False,
           "1": True, "true": True, "yes": True}  # fmt: skip


@dataclass(frozen=True)
class Login:
    """A login of any of four forms, and the one host that gets it.

    Attributes:
        host: A host, with its port unless that is the scheme's own; empty for no host at all.
        user: Name for Basic authentication.
        password: Password or access key for it.
        cookie: Value of the Cookie header.
        headers: Further request headers.
        query: Parameters that are added to the URL.
        insecure: Whether it may be sent over plain HTTP.

    Raises:
        ConfigError: A field cannot be sent as it is.
    """

    host: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", host_of(self.host))
        for name in ("headers", "query"):
            check_texts(name, getattr(self, name))
        if ":" in self.user:
            raise ConfigError("user of the login holds a colon", expected="a name without one")
        check_cookie(self.cookie)
        taken = {"cookie": bool(self.cookie), "authorization": bool(self.user or self.password)}
        check_headers(self.headers, {name for name, is_set in taken.items() if is_set})

    def __bool__(self) -> bool:
        """Return whether there is anything to send."""
        return bool(self.user or self.password or self.cookie or self.headers or self.query)

    def for_host(self, default: str) -> Login:
        """Return this login, for the host ``default`` unless it has one of its own."""
        return self if self.host else replace(self, host=default)

    def names_host_of(self, url: str) -> bool:
        """Return whether the URL's host is the login's; a leading ``www.`` makes no difference."""
        return bool(self.host) and _site(url) == _site(f"{urlsplit(url).scheme}://{self.host}")

    def applies_to(self, url: str) -> bool:
        """Return whether it is sent with a request for this URL."""
        safe = self.insecure or urlsplit(url).scheme == "https"
        return bool(self) and safe and self.names_host_of(url)

    def check_safe(self, url: str, shown: str) -> None:
        """Refuse to ask the login's own host over plain HTTP.

        Raises:
            ConfigError: The URL, told as ``shown``, is not encrypted.
        """
        if self and self.names_host_of(url) and not self.applies_to(url):
            raise ConfigError(
                f"{shown} is not encrypted, and keys are not sent unencrypted",
                expected="https://",
                remedy="Give the archive's https:// URL with --source",
            )

    def request_headers(self) -> dict[str, str]:
        """Return the headers that carry it; the Basic form is that of RFC 7617, in UTF-8."""
        headers = dict(self.headers)
        if self.user or self.password:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        if self.cookie:
            headers["Cookie"] = self.cookie
        return headers

    def with_query(self, url: str) -> str:
        """Return the URL with its parameters; they replace those of the same name."""
        return with_query(url, self.query)

    def remedy_at(self, url: str) -> str:
        """Return what to do when the URL's host wants a login after all."""
        if not self:
            return f"Fill the connection imagenet_default, or set {VARIABLES}; {BY_HAND}"
        if self.applies_to(url):
            return (
                "The login was sent and not accepted: renew it in the connection "
                f"imagenet_default, or in {VARIABLES}; {BY_HAND}"
            )
        whom = f"{self.host} only" if self.host else "the publisher's host over https only"
        return (
            f"A login is there, but keys go to {whom}: give the host in the connection "
            f"imagenet_default or in IMAGENET_HOST if it is meant for this one; {BY_HAND}"
        )


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Return the URL with these parameters in place of those of the same name."""
    if not query:
        return url
    parts = urlsplit(url)
    kept = [item for item in parts.query.split("&") if item and unquote(_name(item)) not in query]
    added = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items()]
    return urlunsplit(parts._replace(query="&".join(kept + added)))


def query_values(url: str) -> set[str]:
    """Return the decoded values of a URL's query; a name without a value may itself be the key."""
    items = (item.partition("=") for item in urlsplit(url).query.split("&"))
    return {unquote(value if equals else name) for name, equals, value in items} - {""}


def without_query(url: str, secrets: Collection[str]) -> str:
    """Return the URL without parameters that carry one of these values, a plus for a space or not.

    A server may hand on what it was asked when it redirects to somewhere else.
    """
    if not secrets:
        return url
    parts, plain = urlsplit(url), {_spaced(text) for text in secrets}
    kept = [
        item
        for item in parts.query.split("&")
        if item and not {_spaced(unquote(t)) for t in (item, item.partition("=")[2])} & plain
    ]
    return urlunsplit(parts._replace(query="&".join(kept)))


def login_from_environment(environ: Mapping[str, str]) -> Login:
    """Return the login that environment variables hold; an empty one for none.

    They are IMAGENET_HOST, IMAGENET_USER, IMAGENET_ACCESS_KEY, IMAGENET_COOKIE, IMAGENET_HEADERS (a
    JSON object), IMAGENET_QUERY (``a=b&c=d``, percent-encoded) and IMAGENET_INSECURE.

    Raises:
        ConfigError: One of them cannot be read; its value is not told.
    """
    insecure = _SWITCH.get(environ.get("IMAGENET_INSECURE", "").strip().lower())
    if insecure is None:
        raise ConfigError("IMAGENET_INSECURE cannot be read", expected="1, 0 or nothing")
    return Login(
        host=environ.get("IMAGENET_HOST", ""),
        user=environ.get("IMAGENET_USER", ""),
        password=environ.get("IMAGENET_ACCESS_KEY", ""),
        cookie=environ.get("IMAGENET_COOKIE", ""),
        headers=headers_in(environ.get("IMAGENET_HEADERS", ""), "IMAGENET_HEADERS"),
        query=query_in(environ.get("IMAGENET_QUERY", ""), "IMAGENET_QUERY"),
        insecure=insecure,
    )


def headers_in(text: str, what: str) -> dict[str, str]:
    """Read headers from a JSON object; ``what`` names it in the error.

    Raises:
        ConfigError: It is none.
    """
    try:
        headers = json.loads(text or "{}")
    except ValueError:
        headers = None  # not told: the error would quote the text
    if not isinstance(headers, dict):
        raise ConfigError(f"{what} cannot be read", expected='JSON such as {"X-Key": "…"}')
    return headers


def query_in(text: str, what: str) -> dict[str, str]:
    """Read parameters from ``name=value&name=value``, percent-encoded; a plus is a plus.

    Raises:
        ConfigError: There is something else; ``what`` names it.
    """
    pairs = [item.partition("=") for item in text.removeprefix("?").split("&") if item]
    if not all(name and equals for name, equals, _ in pairs):
        raise ConfigError(f"{what} cannot be read", expected="name=value&name=value")
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _spaced(text: str) -> str:
    return text.replace("+", " ")


def _name(item: str) -> str:
    return item.partition("=")[0]


def _site(url: str) -> tuple[str, int]:
    """Return host, without ``www.``, and port of a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return (parts.hostname or "").removeprefix("www."), port
