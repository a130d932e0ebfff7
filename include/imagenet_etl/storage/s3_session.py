"""What all prefixes have in common that are reached through one boto3 client of S3."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from imagenet_etl.aws.client_config import MAX_CONNECTIONS
from imagenet_etl.storage.s3_ahead import Room
from imagenet_etl.storage.s3_counts import Pace, Reads
from imagenet_etl.storage.s3_signed import SignedGets

_T = TypeVar("_T")


class Session:
    """A client with its threads, its memory for reading ahead, its counts and its pace.

    Threads do single requests and never wait for each other, so that they cannot all wait.

    Attributes:
        client: The boto3 client.
        connections: Requests under way at once: 64, or fewer if the client has fewer connections.
        reads: What was read, of all prefixes together.
        pace: How fast reading is.
        room: The memory for what is read ahead.
        signed: The cheap way to read.
        put_tells_tag: Whether the answer to a PUT has the ETag that the object will have; None
            until one was compared.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.connections = min(MAX_CONNECTIONS, client.meta.config.max_pool_connections)
        self.reads = Reads()
        self.pace = Pace()
        self.room = Room(self.pool)
        self.signed = SignedGets(client)
        self.put_tells_tag: bool | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()

    def pool(self) -> ThreadPoolExecutor:
        """Return the threads; there are none until they are needed."""
        with self._guard:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.connections, "s3")
            return self._pool

    def each(
        self, things: Iterable[_T], work: Callable[[_T], object], most: int | None = None
    ) -> None:
        """Do one request's work for each thing, many at once; things are taken as they go.

        Args:
            things: What to do it for.
            work: Does it.
            most: How many are taken ahead; as many again as there are connections unless given.

        Raises:
            Exception: What the first failing call raised, once those under way have ended.
        """
        running: set[Future[object]] = set()
        try:
            for thing in things:
                if len(running) >= (most or 2 * self.connections):
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for each in done:
                        each.result()
                running.add(self.pool().submit(work, thing))
            for each in running:
                each.result()
        finally:
            for each in running:
                each.cancel()
            wait(running)


def tag_of(etag: str) -> str:
    """Return an ETag with its quotes, which rclone leaves out in listings."""
    return '"' + etag.strip('"') + '"'
