"""Progress: a line now and then in a log, a bar on a terminal."""

from __future__ import annotations

import io
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagenet_etl import progress
from imagenet_etl.progress import duration, metered


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until the test moves it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    return now


def test_images_are_counted_with_rates_and_time_left(clock):
    with metered("pack", 1000, "images") as meter:
        clock[0] += 10
        meter.add(250, 5_000_000)
        assert meter.line() == "pack: 250 of 1,000 images, 25/s, 0.5 MB/s, 30 s left"


def test_bytes_are_counted_in_megabytes(clock):
    with metered("download", 4_000_000, "B") as meter:
        clock[0] += 2
        meter.add(1_000_000)
        assert meter.line() == "download: 1.0 of 4.0 MB, 0.5 MB/s, 6 s left"


def test_nothing_done_and_nothing_known_is_told_plainly(clock):
    with metered("x", 0, "files") as meter:
        assert meter.line() == "x: 0 of 0 files, 0/s"
        clock[0] += 1
        meter.add(5)
        assert meter.line() == "x: 5 of 0 files, 5/s"


def test_more_than_expected_leaves_no_negative_time(clock):
    with metered("x", 10, "files") as meter:
        clock[0] += 1
        meter.add(20)
        assert meter.line().endswith(", 0 s left")


def test_a_restart_sets_the_count_back(clock):
    with metered("x", 100, "B") as meter:
        meter.add(60)
        meter.restart(10)
        meter.add(5)
        assert meter.items == 15


def test_a_log_gets_a_line_every_ten_seconds(clock, caplog):
    caplog.set_level(logging.INFO, "imagenet_etl")
    with metered("x", 100, "files") as meter:
        for _ in range(100):
            clock[0] += 0.5
            meter.add(1)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 50 / progress.LINE_EVERY_S
    assert lines[0] == "x: 20 of 100 files, 2/s, 40 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (90, "90 s"), (91, "2 min"), (719, "12 min"), (3599, "1 h 0 min"),
     (4800, "1 h 20 min"), (183_600, "51 h 0 min"), (4_000_020, "1,111 h 7 min")],
)  # fmt: skip
def test_times_are_told_in_the_unit_that_people_would_use(seconds, text):
    assert duration(seconds) == text


def test_large_files_are_counted_in_gigabytes(clock):
    with metered("download", 1_310_000_000_000, "B") as meter:
        clock[0] += 10
        meter.add(1_000_000_000)
        assert meter.line() == "download: 1.0 of 1,310.0 GB, 100.0 MB/s, 3 h 38 min left"


def test_what_was_there_before_counts_as_done_but_not_for_the_rate(clock):
    with metered("download", 0, "B") as meter:
        clock[0] += 3
        meter.restart(30_000_000_000, 40_000_000_000)
        clock[0] += 7
        meter.add(1_000_000_000)
        assert meter.line() == "download: 31.0 of 40.0 GB, 100.0 MB/s, 90 s left"


def test_starting_over_keeps_the_rate(clock):
    with metered("download", 4_000_000, "B") as meter:
        clock[0] += 2
        meter.add(2_000_000)
        meter.restart(0)
        assert meter.line() == "download: 0.0 of 4.0 MB, 1.0 MB/s, 4 s left"


def test_threads_share_a_meter(clock):
    with metered("x", 80_000, "files") as meter, ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [meter.add(1, 2) for _ in range(10_000)])
    assert (meter.items, meter.bytes) == (80_000, 160_000)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("unit", "shown"), [("B", "MB"), ("images", "3/3")])
def test_a_terminal_gets_a_bar(monkeypatch, caplog, unit, shown):
    caplog.set_level(logging.INFO, "imagenet_etl")
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    total = 3 if unit == "images" else 3_000_000
    with metered("pack", total, unit) as meter:
        meter.add(total)
    assert "pack" in terminal.getvalue()
    assert shown in terminal.getvalue()
    assert caplog.records == []


def test_a_bar_takes_what_was_there_for_no_speed(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with metered("download", 0, "B") as meter:
        meter.restart(60, 100)
        meter.add(10)
        (task,) = meter._bar.tasks
        assert (task.completed, task.total) == (70, 100)
        assert not task.speed
