"""Where a redirect may lead, and whether credentials may follow it."""

from __future__ import annotations

import httpx

from imagenet_etl.download.urls import mask_url
from imagenet_etl.errors import RedirectRefused


def redirect_target(request: httpx.URL, location: str) -> httpx.URL:
    """Return where a redirect leads.

    Raises:
        RedirectRefused: To no readable URL, to another scheme than HTTP, or from HTTPS down to
            HTTP.
    """
    try:
        target = request.join(location)
    except (httpx.InvalidURL, ValueError):
        raise RedirectRefused(
            f"{mask_url(str(request))} redirects to something that is no URL",
            remedy="Give the archive's final URL yourself",
        ) from None
    if target.scheme not in ("http", "https") or (
        request.scheme == "https" and target.scheme == "http"
    ):
        raise RedirectRefused(
            f"{mask_url(str(request))} redirects to {mask_url(str(target))}",
            expected="a redirect to HTTP or HTTPS that does not give up encryption",
            remedy="Give the archive's final URL yourself",
        )
    return target


def same_origin(a: httpx.URL, b: httpx.URL) -> bool:
    """Return whether credentials for ``a`` may be sent to ``b``: equal scheme, host and port."""
    return (a.scheme, a.host, a.port) == (b.scheme, b.host, b.port)
