"""What is to be downloaded, and the login that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from imagenet_etl.download.login import Login, query_values, with_query
from imagenet_etl.download.urls import is_s3, mask_url


@dataclass(frozen=True)
class Wanted:
    """What is to be downloaded.

    Attributes:
        name: The archive's name.
        url: Where it is.
        kind: ``zip``, ``tar`` or ``tar.gz``, to recognise its first bytes; empty for any.
        size: Its published size in bytes, None when any will do.
        headers: Extra request headers; never sent to another origin.
        query: Extra parameters of the request, such as a key; never shown.
        remedy: What to do when a login is wanted.
    """

    name: str
    url: str = field(repr=False)
    kind: str
    size: int | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)
    remedy: str = field(default=Login().remedy_at(""), repr=False)

    @property
    def shown(self) -> str:
        """The URL as it may appear in a log or a receipt."""
        return mask_url(self.url)

    @property
    def requested(self) -> str:
        """The URL as it is sent to the server."""
        return with_query(self.url, self.query)

    @property
    def query_secrets(self) -> set[str]:
        """The values of its query that no other host may see: the URL's own and the login's."""
        return query_values(self.url) | set(self.query.values()) - {""}

    @property
    def is_s3(self) -> bool:
        """Whether it is an object in a bucket."""
        return is_s3(self.url)

    def with_login(self, login: Login) -> Wanted:
        """Return this with what the login adds to a request, if it is meant for the URL's host.

        Raises:
            ConfigError: Its keys would be sent unencrypted.
        """
        login.check_safe(self.url, self.shown)
        sent = login.applies_to(self.url)
        return Wanted(
            self.name,
            self.url,
            self.kind,
            self.size,
            login.request_headers() if sent else {},
            login.query if sent else {},
            login.remedy_at(self.url),
        )
