"""How many streams a server is thought to bear."""

import time

import pytest

from imagenet_etl.download.course import Course
from imagenet_etl.download.slices import Slice


def finish(course: Course, pieces: int) -> int:
    for _ in range(pieces):
        course.piece_finished()
    return course.limit


def test_all_streams_are_tried_at_first() -> None:
    assert finish(Course(4, Slice()), 1000) == 4


def test_one_more_stream_may_try_after_some_pieces() -> None:
    course = Course(4, Slice())
    course.refused(1, 0.0)
    assert [finish(course, 15), finish(course, 1), finish(course, 15), finish(course, 1)] == [
        1, 2, 2, 3
    ]  # fmt: skip


def test_refusal_leaves_one_stream_at_least() -> None:
    course = Course(4, Slice())
    course.refused(0, 0.0)
    assert course.limit == 1


def test_no_stream_is_added_while_the_server_asked_for_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    course = Course(4, Slice())
    course.refused(2, 3600.0)
    assert finish(course, 100) == 2
    now[0] += 3600
    assert finish(course, 1) == 3
