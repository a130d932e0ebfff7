"""A wire between S3 clients and a server: it counts what is read, and may be as long as wished.

It hands bytes on as they are. A request begins where a client speaks again after the server has;
its first line tells what it is. ``latency_s`` holds each request back before it goes on its way,
all of them side by side, as distance does.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.moto_server import MotoServer

_CHUNK = 1 << 18
_REQUEST = re.compile(rb"([A-Z]+) (/[^ ]*) HTTP/1\.[01]\r\n")


@dataclass
class Counts:
    """Requests and bytes of answers, by method and path without its query.

    Attributes:
        requests: How many there were.
        bytes: What the server sent in answer, heads included.
        most_at_once: The most requests that were under way at one time.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    most_at_once: int = 0

    def of(self, method: str, part: str) -> tuple[int, int]:
        """Return requests and bytes of a method whose path holds ``part``."""
        keys = [key for key in self.requests if key[0] == method and part in key[1]]
        return sum(self.requests[key] for key in keys), sum(self.bytes[key] for key in keys)


class CountingProxy(MotoServer):
    """A running wire; its clients are those of the server behind it.

    Attributes:
        latency_s: How long each request is held back.
        counts: What went through since it was last set anew.
    """

    def __init__(self, server: str) -> None:
        super().__init__("")
        self.latency_s = 0.0
        self.counts = Counts()
        self._behind = urlsplit(server)
        self._under_way = 0

    async def serve(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Serve until ``ended``; ``started`` is set when ``url`` is known."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_CHUNK)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()
            await ended.wait()

    async def _connected(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        try:
            server, to_server = await asyncio.open_connection(
                self._behind.hostname, self._behind.port, limit=_CHUNK
            )
        except OSError:
            to_client.close()
            return
        wire = _Wire(self)
        await asyncio.gather(
            wire.requests(client, to_server), wire.answers(server, to_client),
            return_exceptions=True,
        )  # fmt: skip
        wire.end()

    def begun(self) -> None:
        """Count a request as under way."""
        self._under_way += 1
        self.counts.most_at_once = max(self.counts.most_at_once, self._under_way)

    def answered(self) -> None:
        """Count it as answered."""
        self._under_way -= 1


class _Wire:
    """One connection, and the request that is under way on it."""

    def __init__(self, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self._key: tuple[str, str] | None = None
        self._waits = False

    async def requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        try:
            while data := await client.read(_CHUNK):
                match = None if self._waits else _REQUEST.match(data)
                if match:
                    path = match[2].decode().partition("?")[0]
                    self._key, self._waits = (match[1].decode(), path), True
                    self._proxy.counts.requests[self._key] += 1
                    self._proxy.begun()
                    await asyncio.sleep(self._proxy.latency_s)
                server.write(data)
                await server.drain()
        finally:
            server.close()

    async def answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            while data := await server.read(_CHUNK):
                self.end()
                if self._key is not None:
                    self._proxy.counts.bytes[self._key] += len(data)
                client.write(data)
                await client.drain()
        finally:
            client.close()

    def end(self) -> None:
        """Note that the request under way, if there is one, has its answer or none any more."""
        if self._waits:
            self._waits = False
            self._proxy.answered()


@contextmanager
def counting_proxy(server: MotoServer) -> Iterator[CountingProxy]:
    """Put a wire in front of a server until the block ends."""
    proxy, started = CountingProxy(server.url), threading.Event()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        loop.run_until_complete(proxy.serve(started, ended))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, name="wire", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
