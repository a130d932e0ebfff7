"""One check: what all of its jobs share, and the threads that do them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field

from imagenet_etl.check.sample import Sample
from imagenet_etl.check.tree import Tree
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.progress import Meter

Job = Callable[[], None]


class _Stopped(Exception):
    """Another job has failed; nobody reads this."""


@dataclass(frozen=True)
class Run:
    """What the jobs of one check share; threads may use it at once.

    Attributes:
        tree: The folder.
        meter: Counts the bytes that were read.
        sample: The images to decode.
    """

    tree: Tree
    meter: Meter
    sample: Sample
    _stop: threading.Event = field(default_factory=threading.Event)

    def count(self, size: int) -> None:
        """Count bytes that were read; ends the job if another one has failed."""
        if self._stop.is_set():
            raise _Stopped
        self.meter.add(size)

    def check_file(self, file: ManifestFile) -> None:
        """Read a file and compare its size and digest.

        Raises:
            DatasetDamaged: It is missing or differs.
        """
        found = self.tree.storage.digest(self.tree.key(file.name))
        if found is None:
            raise self.tree.damaged(file.name, "a file", "nothing")
        size, digest = found
        if size != file.size:
            raise self.tree.damaged(file.name, f"{file.size:,} bytes", f"{size:,} bytes")
        if digest != file.sha256:
            raise self.tree.damaged(file.name, f"sha256 {file.sha256}", digest)
        self.count(file.size)

    def do(self, jobs: Iterable[Job]) -> None:
        """Do jobs on all cores; they are asked for only when they are about to begin.

        Raises:
            DatasetDamaged: Whatever the first job to fail raises; the others are stopped.
        """
        threads = 2 * len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(threads) as executor:
            pending: set[Future[None]] = set()
            try:
                for job in jobs:
                    if len(pending) > threads:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for future in done:
                            future.result()
                    pending.add(executor.submit(job))
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                self._stop.set()
                executor.shutdown(cancel_futures=True)
                raise
