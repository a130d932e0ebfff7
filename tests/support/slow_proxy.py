"""A fault proxy that answers late, as a server far away does, and counts what is asked at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

from tests.support.fault_proxy import FaultProxy, _Handler


class SlowProxy(FaultProxy):
    """A running proxy; its clients are those of the server behind it.

    Attributes:
        latency_s: Seconds by which each answer is late.
        most_at_once: The most requests that were under way together.
        paths: The targets of the requests, in their order.
    """

    def __init__(self, url: str, server: str, latency_s: float) -> None:
        super().__init__(url, server)
        self.latency_s = latency_s
        self.most_at_once = 0
        self.paths: list[str] = []
        self._at_once = 0

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        with self._turn:
            self.paths.append(path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.latency_s)
            return super().forward(method, path, headers, body)
        finally:
            with self._turn:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def slow_proxy(server: str, latency_s: float = 0.03) -> Iterator[SlowProxy]:
    """Serve until the block ends, on a port that was free."""
    with _Server(("127.0.0.1", 0), _Handler) as httpd:
        proxy = SlowProxy(f"http://127.0.0.1:{httpd.server_address[1]}", server, latency_s)
        handler: Any = type("Handler", (_Handler,), {"proxy": proxy})
        httpd.RequestHandlerClass = handler
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield proxy
        finally:
            httpd.shutdown()
