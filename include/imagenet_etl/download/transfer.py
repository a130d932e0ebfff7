"""Complete a partial file: attempts with patience, one start from the beginning, in slices."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from imagenet_etl.download.course import Course
from imagenet_etl.download.crew import Crew
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.retry import Patience, StrayAnswer, TransientAnswer
from imagenet_etl.download.slices import Pace
from imagenet_etl.download.source import Source, StartOver
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import SourceChanged, SourceUnavailable, StillPending
from imagenet_etl.progress import Meter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is fetched, where to, and how.

    Attributes:
        wanted: The archive.
        part: Where it goes.
        patience: How long to try while nothing arrives.
        pace: In how many streams, and for how long at a time.
    """

    wanted: Wanted
    part: Partial
    patience: Patience
    pace: Pace = field(default_factory=Pace)


class Transfer:
    """Completes the partial file of a job from a source.

    Args:
        source: The server's side.
        job: What is fetched, where to, and how.
        meter: Told of every byte.
    """

    def __init__(self, source: Source, job: Job, meter: Meter) -> None:
        self._source = source
        self._job = job
        self._meter = meter
        self._course = Course(job.pace.connections, job.pace.slice)

    def complete(self) -> None:
        """Fetch what is missing; one start from the beginning is granted, over all slices.

        Raises:
            SourceChanged: The file changed twice.
            SourceUnavailable: Nothing new arrived within the patience's budget, or in a slice.
            StillPending: The slice is over.
        """
        shown, patience = self._job.wanted.shown, self._job.patience
        self._job.part.meant_for(shown)
        patience.begin()
        while True:
            try:
                if self._attempt():
                    return
                raise self._end_of_slice(f"{self._meter.bytes:,} bytes in it")
            except StartOver as reason:
                self._start_over(reason)
                patience.begin()
            except TransientAnswer as failure:
                self._course.strays += isinstance(failure, StrayAnswer)
                if not patience.wait(shown, failure, self._course.slice.left_s):
                    raise self._end_of_slice(str(failure), failure.retry_after_s) from None

    def _start_over(self, reason: StartOver) -> None:
        part, shown = self._job.part, self._job.wanted.shown
        part.start_over()
        if part.past.restarts > 1:
            part.discard()  # the next run may try as often
            raise SourceChanged(
                f"{shown} changes while it is downloaded",
                found=str(reason),
                remedy="Run again when it is at rest; where several servers answer to one name, "
                "give the address of one of them as --source",
            ) from None
        log.warning("%s: %s; starting over", shown, reason)

    def _attempt(self) -> bool:
        """Return whether the file is complete now; if not, the slice is over."""
        job = self._job
        self._source.begin()
        self._begun()
        with Crew(self._source, job.wanted, job.part, self._course) as crew:
            crew.begun, crew.arrived = self._begun, self._arrived
            return crew.work()

    def _begun(self) -> None:
        part = self._job.part
        self._meter.restart(part.size, part.remote.total if part.remote else None)

    def _arrived(self, count: int) -> None:
        self._meter.add(count, count)
        self._job.patience.progressed(self._job.part.size)

    def _end_of_slice(
        self, found: str, retry_after_s: float = 0.0
    ) -> SourceUnavailable | StillPending:
        """Return what to say when the slice is over: to come again has to be of use."""
        if self._course.finished:
            return StillPending(
                f"{self._meter.line()}; the next slice goes on from there",
                retry_after_s=retry_after_s,
            )
        return SourceUnavailable(
            f"{self._job.wanted.shown} sends too little in a slice of time to get on",
            expected=f"a piece of {self._job.part.pieces.piece_bytes:,} bytes",
            found=found,
            remedy="Run again later: what has arrived is kept; or give another --source",
        )
