"""Work side by side."""

import threading
from pathlib import Path

import pytest

from imagenet_etl.aws.s3_bucket import LocalFile
from imagenet_etl.aws.s3_parallel import in_parallel

FILES = [LocalFile(str(number), Path("/x"), 1, "") for number in range(20)]


def test_each_file_is_done_once() -> None:
    done: list[str] = []
    in_parallel(FILES, 3, lambda file: done.append(file.key))
    assert sorted(done, key=int) == [file.key for file in FILES]


def test_failure_stops_what_is_under_way_and_is_the_one_that_is_raised() -> None:
    stopped, begun = threading.Event(), threading.Barrier(2, timeout=20)

    def work(file: LocalFile) -> None:
        begun.wait()
        if file.key == "1":
            raise ValueError("the first")
        assert stopped.wait(20)
        raise ValueError("told to stop")

    with pytest.raises(ValueError, match="the first"):
        in_parallel(FILES[:2], 2, work, lambda _: stopped.set())


def test_nothing_is_begun_after_a_failure() -> None:
    done: list[str] = []

    def work(file: LocalFile) -> None:
        done.append(file.key)
        raise ValueError

    with pytest.raises(ValueError):
        in_parallel(FILES, 1, work)
    assert done == ["0"]
