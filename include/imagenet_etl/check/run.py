"""One check: what all of its jobs share, and the threads that do them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field

from imagenet_etl.check.checked import Checked
from imagenet_etl.check.sample import Sample
from imagenet_etl.check.tree import Tree
from imagenet_etl.errors import StillPending
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.processes import cores
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
        checked: What earlier goes have done; None for a check in one go.
        go_on: Raises what ends the check.
    """

    tree: Tree
    meter: Meter
    sample: Sample
    checked: Checked | None = None
    go_on: Callable[[], None] = lambda: None
    _stop: threading.Event = field(default_factory=threading.Event)

    def count(self, size: int) -> None:
        """Count bytes that were read; ends the job if another one has failed."""
        if self._stop.is_set():
            raise _Stopped
        self.go_on()
        self.meter.add(size)

    def check_file(self, file: ManifestFile) -> None:
        """Read a file and compare its size and digest.

        Raises:
            DatasetDamaged: It is missing or differs.
        """
        self.compare(file, self.tree.storage.digest(self.tree.key(file.name)))

    def compare(self, file: ManifestFile, found: tuple[int, str] | None) -> None:
        """Compare a file with the size and digest that were found; None for no file.

        Raises:
            DatasetDamaged: It is missing or differs.
        """
        if found is None:
            raise self.tree.damaged(file.name, "a file", "nothing")
        size, digest = found
        if size != file.size:
            raise self.tree.damaged(file.name, f"{file.size:,} bytes", f"{size:,} bytes")
        if digest != file.sha256:
            raise self.tree.damaged(file.name, f"sha256 {file.sha256}", digest)
        self.count(file.size)

    def once(self, name: str, files: Sequence[ManifestFile], check: Job) -> None:
        """Do a check of some files, unless an earlier go has, and they are as they were then.

        Args:
            name: What it is noted under.
            files: The files; their bytes count as read, and their part of the sample as decoded.
            check: Reads and compares them.

        Raises:
            DatasetDamaged: Whatever the check raises.
        """
        if self.checked is None:
            check()
            return
        # Looked at before they are read: what changes meanwhile is read again by the next go.
        state = self.checked.state_of(self.tree, files)
        if not self.checked.holds(name, state):
            check()
            self.checked.add(name, state)
            return
        for file in files:
            self.count(file.size)
            self.sample.pass_over(file.name)

    def do(self, jobs: Iterable[Job]) -> None:
        """Do jobs on all cores; they are asked for only when they are about to begin.

        Raises:
            DatasetDamaged: Whatever the first job to fail raises; the others are stopped.
            StillPending: The slice is over; the jobs that had begun are done.
        """
        threads = 2 * cores()
        with ThreadPoolExecutor(threads) as executor:
            pending: set[Future[None]] = set()
            over: StillPending | None = None
            try:
                for job in jobs:
                    if len(pending) > threads:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for future in done:
                            future.result()
                    over = None if self.checked is None else self.checked.over()
                    if over is not None:
                        pending = {future for future in pending if not future.cancel()}
                        break
                    pending.add(executor.submit(job))
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                self._stop.set()
                executor.shutdown(cancel_futures=True)
                raise
        if over is not None:
            raise over
