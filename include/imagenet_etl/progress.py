"""Progress for people: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger("imagenet_etl")
LINE_EVERY_S = 10.0


class Meter:
    """Counts a stage's items and bytes and tells about them now and then; threads may share it."""

    def __init__(self, label: str, total: int, unit: str, bar: Progress | None = None) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.items = 0
        self.bytes = 0
        self._guard = threading.Lock()
        self._bar = bar
        self._task: TaskID | None = bar.add_task(label, total=total or None) if bar else None
        self._start = self._last = time.monotonic()

    def add(self, items: int, size: int = 0) -> None:
        """Count more items (bytes themselves when the unit is ``B``) and more bytes."""
        with self._guard:
            self.items += items
            self.bytes += size
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.items, total=self.total or None)
        elif time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            log.info("%s", self.line())

    def restart(self, items: int) -> None:
        """Set the count back, when a download has to start over."""
        self.items = items

    def line(self) -> str:
        """Return one line: count, rates and the time that is left."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self.items / seconds
        seconds_left = max(0, self.total - self.items) / rate if rate else 0
        left = f", {seconds_left:,.0f} s left" if rate and self.total else ""
        if self.unit == "B":
            done = f"{self.items / 1e6:,.1f} of {self.total / 1e6:,.1f} MB"
            return f"{self.label}: {done}, {rate / 1e6:,.1f} MB/s{left}"
        volume = f", {self.bytes / seconds / 1e6:,.1f} MB/s" if self.bytes else ""
        done = f"{self.items:,} of {self.total:,} {self.unit}"
        return f"{self.label}: {done}, {rate:,.0f}/s{volume}{left}"


@contextmanager
def metered(label: str, total: int, unit: str) -> Iterator[Meter]:
    """Show progress of one piece of work; ``unit`` is ``B`` for bytes, else a noun."""
    if not sys.stderr.isatty():
        yield Meter(label, total, unit)
        return
    with _bar(unit) as bar:
        yield Meter(label, total, unit, bar)


def _bar(unit: str) -> Progress:
    from rich import progress as columns  # noqa: PLC0415 - only terminals need it
    from rich.console import Console  # noqa: PLC0415

    count = (
        (columns.DownloadColumn(), columns.TransferSpeedColumn())
        if unit == "B"
        else (columns.MofNCompleteColumn(),)
    )
    return columns.Progress(
        columns.TextColumn("{task.description:<16}"),
        columns.BarColumn(),
        *count,
        columns.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
