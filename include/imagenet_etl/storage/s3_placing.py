"""Many small objects are written side by side, while their maker goes on with the next."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

from imagenet_etl.storage.s3_session import Session
from imagenet_etl.storage.s3_writing import Name, Writer

_IN_MEMORY = 1 << 20


class Placing:
    """Writes under way; ``finish`` waits for them.

    Memory: two bodies of at most 1 MiB for each connection.

    Args:
        session: The way to S3.
        writer: Does a write.
        scratch: Returns this process's folder on local disk.
    """

    def __init__(self, session: Session, writer: Writer, scratch: Callable[[], Path]) -> None:
        self._session, self._writer, self._scratch = session, writer, scratch
        self._room = threading.Semaphore(2 * session.connections)
        self._guard = threading.Lock()
        self._running: dict[str, Future[None]] = {}
        self._failure: BaseException | None = None

    def add(self, name: Name, path: Path) -> None:
        """Take a file and write it, after what was added before under the same key.

        Raises:
            CloudError, CloudUnavailable: An earlier write has failed.
        """
        if self._failure is not None:
            self.finish()
        self._wait_for(name["Key"])
        if path.stat().st_size > _IN_MEMORY:
            # The caller may use the name again, and what is large needs no other at its side.
            path = path.rename(self._scratch() / uuid.uuid4().hex)
            self._writer.put_file(name, path)
            path.unlink()
            return
        data = path.read_bytes()
        path.unlink()
        self._room.acquire()
        with self._guard:
            future = self._session.pool().submit(self._writer.put, name, data)
            self._running[name["Key"]] = future
        future.add_done_callback(lambda done: self._is_done(name["Key"], done))

    def finish(self) -> None:
        """Wait for all writes.

        Raises:
            CloudError, CloudUnavailable: What the first one to fail raised.
        """
        with self._guard:
            running = list(self._running)
        for key in running:
            self._wait_for(key)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _wait_for(self, key: str) -> None:
        with self._guard:
            future = self._running.get(key)
        if future is not None:
            wait([future])
            self._note(key, future)

    def _is_done(self, key: str, done: Future[None]) -> None:
        self._note(key, done)
        self._room.release()

    def _note(self, key: str, done: Future[None]) -> None:
        """Keep what a write raised, once: who waits for it may be woken before it calls back."""
        with self._guard:
            if self._running.get(key) is done:
                del self._running[key]
                self._failure = self._failure or done.exception()
