"""Progress: a line now and then in a log, a bar on a terminal."""

from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from imagenet_etl import progress
from imagenet_etl.progress import metered


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
