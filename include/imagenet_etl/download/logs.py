"""Keeps what may be a secret out of the HTTP libraries' own logs."""

from __future__ import annotations

import logging

import httpx

from imagenet_etl.download.urls import mask_url


class _MaskUrls(logging.Filter):
    """httpx logs every URL at INFO, user and query and all; a key may stand there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                mask_url(str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args
            )
        return True


_MASK = _MaskUrls()


def keep_secrets_out_of_logs() -> None:
    """Mask URLs in httpx's lines and quieten httpcore's, however logging is set up elsewhere."""
    httpx_log, httpcore_log = logging.getLogger("httpx"), logging.getLogger("httpcore")
    httpx_log.addFilter(_MASK)  # the same filter twice is one
    if httpx_log.level == logging.NOTSET:
        httpx_log.setLevel(logging.WARNING)
    if httpcore_log.level == logging.NOTSET:
        # At DEBUG it logs the answer's headers, where a signed Location or a cookie may stand.
        httpcore_log.setLevel(logging.INFO)
