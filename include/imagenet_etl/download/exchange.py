"""One request of a download, and what becomes of the login on its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from imagenet_etl.download.login import without_query
from imagenet_etl.download.logs import keep_secrets_out_of_logs
from imagenet_etl.download.redirects import redirect_target, same_origin
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import ConfigError, RedirectRefused

AS_IT_IS = {"Accept-Encoding": "identity"}
_MAX_REDIRECTS = 5


def new_client(timeout_s: float) -> httpx.Client:
    """Return a client that waits so long for each block; what it logs is masked."""
    keep_secrets_out_of_logs()
    timeout = httpx.Timeout(timeout_s, connect=min(30.0, timeout_s))
    return httpx.Client(timeout=timeout, event_hooks={"response": [_refuse_bad_redirect]})


@contextmanager
def answer_to(
    client: httpx.Client, method: str, wanted: Wanted, headers: dict[str, str]
) -> Iterator[httpx.Response]:
    """Give the answer to a request, redirects followed.

    Raises:
        ConfigError: The URL or a header cannot be sent.
        RedirectRefused: It leads where a download must not go, or round in circles.
        httpx.TransportError: There is no answer.
    """
    try:
        with _followed(client, method, wanted, headers) as response:
            yield response
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL,
            UnicodeError):  # fmt: skip
        # Their text quotes what cannot be sent, which may be the secret itself.
        raise ConfigError(
            f"{wanted.shown}: this URL or a header for it cannot be sent",
            remedy="Look for line breaks and for characters that are not ASCII",
        ) from None


def _refuse_bad_redirect(response: httpx.Response) -> None:
    """Look at a redirect before httpx does, which quotes the Location in its own errors."""
    if response.has_redirect_location:
        redirect_target(response.request.url, response.headers["location"])


@contextmanager
def _followed(
    client: httpx.Client, method: str, wanted: Wanted, headers: dict[str, str]
) -> Iterator[httpx.Response]:
    url = httpx.URL(wanted.requested)
    for _ in range(_MAX_REDIRECTS + 1):
        with client.stream(method, url, headers=headers) as response:
            if not response.has_redirect_location:
                yield response
                return
            target = redirect_target(url, response.headers["location"])
        if same_origin(url, target):
            target = target.copy_with(userinfo=target.userinfo or url.userinfo)
        else:
            allowed = set(headers) - set(wanted.headers)
            headers = {k: v for k, v in headers.items() if k in allowed}
            client.cookies.clear()
            bare = str(target.copy_with(userinfo=b""))
            target = httpx.URL(without_query(bare, wanted.query_secrets))
        url = target
    raise RedirectRefused(f"{wanted.shown} redirects more than {_MAX_REDIRECTS} times")
