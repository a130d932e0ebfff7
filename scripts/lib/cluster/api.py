"""The cluster's REST API."""

from __future__ import annotations

import time
from typing import Any

import httpx


class Api:
    """A client that waits while the API server is away, as one does during a restart.

    Args:
        url: The API server's.
        patience_s: For how long it may be away.
    """

    def __init__(self, url: str, patience_s: float = 120) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self._patience_s = patience_s

    def get(self, path: str) -> Any:
        """Return what lies at a path."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Create something."""
        return self._ask("POST", path, body)

    def health(self) -> dict[str, str]:
        """Return the state of each component, nothing when the API server is away."""
        try:
            reply = self._http.get("/api/v2/monitor/health").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return {}
        return {name: part["status"] for name, part in reply.items() if part["status"]}

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        deadline = time.monotonic() + self._patience_s
        may_log_in = True
        while True:
            try:
                reply = self._http.request(method, f"/api/v2/{path}", json=body)
                if reply.status_code == httpx.codes.UNAUTHORIZED and may_log_in:
                    self._log_in()
                    may_log_in = False  # a new token that is refused as well is an answer
                    continue
            except httpx.TransportError:
                # A POST that was lost on the way would be lost: nothing here posts during restarts.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
                continue
            return reply.raise_for_status().json()

    def _log_in(self) -> None:
        token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
