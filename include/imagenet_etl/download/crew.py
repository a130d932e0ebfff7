"""The streams of one attempt: one in the calling thread, helpers in threads of their own.

The first stream asks alone. Once it has a good answer, and if the file is long and can be asked
for in ranges, helpers take further pieces. A stream runs on into the next piece while that is
free, so one that is alone asks once for all the rest. Who is refused while others are at work
leaves the field to them; some pieces later one more may try. Memory is one block a stream.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Self

from imagenet_etl.download.course import Course
from imagenet_etl.download.descriptor import Fenced
from imagenet_etl.download.partial import Partial
from imagenet_etl.download.pieces import Piece
from imagenet_etl.download.retry import StrayAnswer, TransientAnswer
from imagenet_etl.download.slices import Slice
from imagenet_etl.download.source import Answer, RangeRefused, Source, Span, StartOver
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.files import check_space

log = logging.getLogger(__name__)
_MANY_PIECES = 4
_POLL_S, _FAREWELL_S, _PAUSE_S = 0.2, 2.0, 1.0


class _Stopped(Exception):
    """This stream is to end where it is."""


class Crew:
    """A context manager; once it is left no stream of it writes any more.

    Attributes:
        begun: Called when the file is begun, for the first time or anew.
        arrived: Called with the number of bytes that were written, in any thread.

    Args:
        source: The server's side.
        wanted: What is fetched, for messages.
        part: The partial file.
        course: What earlier attempts have learned.
    """

    def __init__(self, source: Source, wanted: Wanted, part: Partial, course: Course) -> None:
        self._source = source
        self._wanted = wanted
        self._part = part
        self._course = course
        self.begun: Callable[[], None] = lambda: None
        self.arrived: Callable[[int], None] = lambda _: None
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._helpers: list[threading.Thread] = []
        self._active = 0
        self._ended = False
        self._error: BaseException | None = None
        self._failure: TransientAnswer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + _FAREWELL_S
        for helper in self._helpers:
            helper.join(max(0.0, deadline - time.monotonic()))
        if any(helper.is_alive() for helper in self._helpers):
            self._part.fence()  # a stalled one may wake much later

    def work(self) -> bool:
        """Return whether the file is complete; if not, the slice is over.

        Raises:
            TransientAnswer: The last of the streams has failed.
            StartOver, EtlError, OSError: What ended one of them for good.
        """
        while not self._is_done and not self._course.slice.is_over:
            with self._turn:
                self._active += 1
            self._stream_on()
            self._wait_for_helpers()
            if self._error is not None:
                raise self._error
            if self._failure is not None and not self._is_done:
                raise self._failure
        return self._is_done

    @property
    def _is_done(self) -> bool:
        return self._ended or self._part.is_complete

    @property
    def _must_end(self) -> bool:
        return self._stop.is_set() or self._course.slice.is_over

    def _wait_for_helpers(self) -> None:
        while any(helper.is_alive() for helper in self._helpers):
            if self._course.slice.is_overdrawn or self._error is not None:
                return
            for helper in list(self._helpers):
                helper.join(_POLL_S)

    def _invite(self) -> None:
        """Start as many helpers as may be of use now."""
        part, remote = self._part, self._part.remote
        if not (self._course.in_ranges and remote and remote.validator):
            return
        with self._turn:
            while (
                part.pieces.whole_count >= _MANY_PIECES
                and self._active < min(self._course.limit, part.pieces.missing_count)
                and not self._stop.is_set()
            ):
                self._active += 1
                helper = threading.Thread(target=self._help, name="download", daemon=True)
                self._helpers.append(helper)
                helper.start()

    def _help(self) -> None:
        try:
            self._stream_on()
        except BaseException as error:  # noqa: BLE001 - the calling thread raises it
            self._error = self._error or error
            self._stop.set()

    def _stream_on(self) -> None:
        """Take one piece after the other; leave when none is free or others do better."""
        has_left = False
        try:
            while not (has_left or self._is_done or self._must_end):
                piece = self._part.take()
                if piece is None:
                    return
                try:
                    self._stream(piece)
                except RangeRefused as refusal:
                    if not self._is_doubtful:
                        raise
                    has_left = self._leaves(StrayAnswer(str(refusal)))
                except TransientAnswer as failure:
                    has_left = self._leaves(failure)
        except (Fenced, _Stopped):
            return
        finally:
            if not has_left:
                with self._turn:
                    self._active -= 1

    def _leaves(self, failure: TransientAnswer) -> bool:
        """Return whether a stream gives up: the last one, or who got nothing while others do."""
        with self._turn:
            is_last = self._active == 1
            if is_last:
                self._failure = failure
            elif not (failure.midway or self._stop.is_set()):
                self._course.refused(self._active - 1, failure.retry_after_s)
            if is_last or not failure.midway:
                self._active -= 1
                return True
        log.info("%s: one of several streams: %s", self._wanted.shown, failure)
        self._stop.wait(random.uniform(0, _PAUSE_S))
        return False

    def _stream(self, piece: Piece) -> None:
        """Write one answer's bytes to a piece, and to those behind it that are free."""
        held: Piece | None = piece
        span = self._span(piece)
        start = at = piece.at
        try:
            with self._source.ask(span) as answer:
                if self._stop.is_set():
                    raise _Stopped
                if answer.whole is not None:
                    held = self._from_the_start(answer, piece)
                else:
                    self._range_has_come(answer, piece)
                self._check_space()
                self._invite()
                assert held is not None
                start = at = held.at
                for block in answer.blocks:
                    at += len(block)
                    if answer.limit is not None and at > answer.limit:
                        raise StartOver(f"it sends more than {answer.limit:,} bytes")
                    if held is not None:
                        held = self._put(held, block, runs_on=span is None or span.end is None)
                    if held is None and at != answer.limit:
                        return  # a body that is read to its end leaves its connection to the next
            if held is not None:
                self._end_of_body(held)
        except TransientAnswer as failure:
            failure.midway = at > start
            raise
        finally:
            if held is not None:
                self._part.give_back(held)

    def _span(self, piece: Piece) -> Span | None:
        """Return what to ask for: a file, all the rest of it, or, among others, one piece."""
        if self._part.remote is None:
            return None
        is_alone = self._course.limit == 1 or not self._course.in_ranges
        is_short = self._part.pieces.whole_count < _MANY_PIECES
        return Span(piece.at, None if is_alone or is_short else piece.end)

    @property
    def _is_doubtful(self) -> bool:
        """Whether an answer that ranges cannot be had is to be put to the test.

        To believe it costs all that is proven, and what the other streams are at.
        """
        is_dear = self._part.proven_bytes > 0 and not self._course.is_sure
        return self._active > 1 or is_dear

    def _range_has_come(self, answer: Answer, piece: Piece) -> None:
        self._course.strays = 0
        if answer.total is not None:
            self._part.learn_total(answer.total, piece)

    def _from_the_start(self, answer: Answer, asked: Piece) -> Piece:
        """Return the first piece, to begin the file with it, whatever piece was asked for."""
        assert answer.whole is not None
        ignores_ranges = self._part.remote is not None
        if ignores_ranges and self._is_doubtful:
            raise StrayAnswer("the server ignores ranges")
        self._part.start(answer.whole, asked)
        self._course.in_ranges = self._course.in_ranges and not ignores_ranges
        can_resume = self._course.in_ranges and answer.whole.validator
        if self._course.slice.is_limited and not can_resume:
            log.warning(
                "%s: its server cannot go on with a part of it, so it is fetched in one go",
                self._wanted.shown,
            )
            self._course.slice = Slice()
        self.begun()
        piece = self._part.take()
        assert piece is not None
        return piece

    def _check_space(self) -> None:
        folder, remote = self._part.folder, self._part.remote
        if folder is not None and remote is not None and remote.total is not None:
            check_space(folder, remote.total - self._part.size)

    def _put(self, piece: Piece, block: bytes, *, runs_on: bool) -> Piece | None:
        """Write a block; return the piece to go on with, None if there is none."""
        view = memoryview(block)
        while view:
            if self._stop.is_set() or self._course.slice.is_overdrawn:
                raise _Stopped
            now, view = view[: piece.room], view[piece.room :]
            self._part.write(piece, now)
            self.arrived(len(now))
            if piece.room:
                continue
            may_run_on = runs_on and not self._course.slice.is_over
            behind = self._part.take_after(piece) if may_run_on else None
            self._piece_finished()  # whom this invites must not have taken the piece behind
            if behind is None:
                return None
            piece = behind
        return piece

    def _piece_finished(self) -> None:
        with self._turn:
            self._course.piece_finished()
        self._invite()

    def _end_of_body(self, piece: Piece) -> None:
        remote = self._part.remote
        if remote is not None and remote.total is None:
            self._ended = True
        elif remote is not None and not self._part.is_complete:
            raise TransientAnswer(f"connection ended at byte {piece.at:,} of {remote.total:,}")
