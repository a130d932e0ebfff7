"""Streams that wake up when their crew is long gone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.downloads import MIB, archive_bytes, quick

from imagenet_etl.download import crew
from imagenet_etl.download.course import Course
from imagenet_etl.download.crew import Crew
from imagenet_etl.download.journal import RemoteFile, journal_of
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.slices import Pace, Slice
from imagenet_etl.download.source import Answer, RangeRefused, Span
from imagenet_etl.download.transfer import Job, Transfer
from imagenet_etl.download.wanted import Wanted
from imagenet_etl.errors import StillPending
from imagenet_etl.progress import Meter

SIZE = 8 * MIB
CONTENT = archive_bytes(61, SIZE)
REMOTE = RemoteFile("http://host/a", '"tag"', SIZE)
WANTED = Wanted("a", REMOTE.url, "zip")


def whole(_: Span) -> Answer:
    return Answer(iter([CONTENT]), SIZE, whole=REMOTE)


def other_length(_: Span) -> Answer:
    return Answer(iter([CONTENT]), SIZE + 1, total=SIZE + 1)


def good_range(span: Span) -> Answer:
    end = span.end or SIZE
    return Answer(iter([CONTENT[span.at : end]]), end, total=SIZE)


def refusal(_: Span) -> Answer:
    raise RangeRefused("no such range")


class Good:
    """Serves every range at once."""

    def begin(self) -> None:
        """Go on with what is there."""

    @contextmanager
    def ask(self, span: Span | None) -> Iterator[Answer]:
        assert span is not None
        yield good_range(span)


class Stalling(Good):
    """Serves the first stream well for a piece; helpers get their answer when it is late."""

    def __init__(self, late: Callable[[Span], Answer]) -> None:
        self.late = late
        self.asked, self.woken = threading.Event(), threading.Event()
        self.helpers: list[threading.Thread] = []

    @contextmanager
    def ask(self, span: Span | None) -> Iterator[Answer]:
        if span is None:
            yield Answer(self._one_piece(), SIZE, whole=REMOTE)
            return
        if threading.current_thread() is threading.main_thread():
            raise StillPending("enough")
        self.helpers.append(threading.current_thread())
        self.asked.set()
        self.woken.wait(30)
        yield self.late(span)

    def _one_piece(self) -> Iterator[bytes]:
        self.asked.wait(30)
        yield CONTENT[:MIB]

    def wake(self) -> None:
        self.woken.set()
        for helper in self.helpers:
            helper.join(30)


late_answers = pytest.mark.parametrize(
    "late", [whole, other_length, good_range, refusal], ids=lambda late: str(late.__name__)
)


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_FAREWELL_S", 0.05)


def leave_a_helper_behind(part: PartFile, source: Stalling, course: Course) -> None:
    with pytest.raises(StillPending), Crew(source, WANTED, part, course) as first:
        first.work()
    assert any(helper.is_alive() for helper in source.helpers)


@late_answers
def test_helper_that_outlives_its_crew_leaves_the_next_ones_file_alone(
    tmp_path: Path, late: Callable[[Span], Answer]
) -> None:
    source, course = Stalling(late), Course(2, Slice(600))
    with PartFile(tmp_path / "a.part") as part:
        leave_a_helper_behind(part, source, course)
        part.start(REMOTE)  # the next attempt
        piece = part.take()
        assert piece is not None
        part.write(piece, memoryview(CONTENT)[:MIB])
        source.wake()
        assert (part.remote, part.size, part.proven_bytes) == (REMOTE, MIB, MIB)
        assert course.in_ranges
        assert course.slice.is_limited


@late_answers
def test_helper_that_outlives_the_file_touches_no_other(
    tmp_path: Path, late: Callable[[Span], Answer]
) -> None:
    path, source = tmp_path / "a.part", Stalling(late)
    with PartFile(path) as part:
        leave_a_helper_behind(part, source, Course(2, Slice(600)))
    before = path.read_bytes(), journal_of(path).read_bytes()
    with (tmp_path / "other").open("w+b") as other:  # it may get the number of the closed file
        other.write(b"of somebody else")
        other.flush()
        source.wake()
    assert (tmp_path / "other").read_bytes() == b"of somebody else"
    assert (path.read_bytes(), journal_of(path).read_bytes()) == before


def test_helper_that_outlives_its_slice_does_not_hurt_the_next(tmp_path: Path) -> None:
    path, source = tmp_path / "a.part", Stalling(whole)
    with PartFile(path) as part, pytest.raises(StillPending):
        job = Job(WANTED, part, quick(), Pace(2, Slice(600)))
        Transfer(source, job, Meter("a", 0, "B")).complete()
    with PartFile(path) as part:
        assert part.size == MIB
        source.wake()
        job = Job(WANTED, part, quick(), Pace(2, Slice(600)))
        Transfer(Good(), job, Meter("a", 0, "B")).complete()
    assert path.read_bytes() == CONTENT
