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
_LARGE_BYTES = 10e9
_LONG_S = 90


class Meter:
    """Counts a stage's items and bytes and tells about them now and then; threads may share it.

    What was there before it began counts as done, but not for the rate.
    """

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
        self._before = 0

    def add(self, items: int, size: int = 0) -> None:
        """Count more items (bytes themselves when the unit is ``B``) and more bytes."""
        with self._guard:
            self.items += items
            self.bytes += size
            is_due = self._bar is None and time.monotonic() - self._last >= LINE_EVERY_S
            if is_due:
                self._last = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.items, total=self.total or None)
        elif is_due:
            log.info("%s", self.line())

    def restart(self, items: int, total: int | None = None) -> None:
        """Set the count to what is there, when a download resumes or has to start over.

        Args:
            items: How much is there.
            total: How much there will be, if that is known now.
        """
        with self._guard:
            jump = items - self.items
            self._before += jump
            self.items = items
            self.total = total or self.total
        if jump and self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=self.total or None, completed=items)

    def line(self) -> str:
        """Return one line: count, rates and the time that is left."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self.items - self._before) / seconds
        seconds_left = max(0, self.total - self.items) / rate if rate > 0 else 0
        left = f", {duration(seconds_left)} left" if rate > 0 and self.total else ""
        if self.unit == "B":
            unit, name = (1e9, "GB") if max(self.items, self.total) > _LARGE_BYTES else (1e6, "MB")
            done = f"{self.items / unit:,.1f} of {self.total / unit:,.1f} {name}"
            return f"{self.label}: {done}, {rate / 1e6:,.1f} MB/s{left}"
        volume = f", {self.bytes / seconds / 1e6:,.1f} MB/s" if self.bytes else ""
        done = f"{self.items:,} of {self.total:,} {self.unit}"
        return f"{self.label}: {done}, {rate:,.0f}/s{volume}{left}"


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``1 h 20 min``."""
    if seconds <= _LONG_S:
        return f"{seconds:,.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


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
