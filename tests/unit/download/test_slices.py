"""The time that a task may go on with a download."""

import pytest

from imagenet_etl.download.slices import Slice


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time that stands still until the test moves it."""
    clock = Clock()
    monkeypatch.setattr("imagenet_etl.download.slices.time", clock)
    return clock


def test_slice_ends_after_its_time_and_gives_pieces_in_flight_a_tenth_more(clock: Clock) -> None:
    piece_of_time = Slice(1500)
    clock.now += 1499
    assert not piece_of_time.is_over
    clock.now += 1
    assert piece_of_time.is_over
    assert not piece_of_time.is_overdrawn
    clock.now += 150
    assert piece_of_time.is_overdrawn


def test_no_slice_never_ends(clock: Clock) -> None:
    forever = Slice()
    clock.now += 1e9
    assert not (forever.is_limited or forever.is_over or forever.is_overdrawn)
    assert forever.has_time_to_read(1 << 60)


@pytest.mark.parametrize(
    ("gone_s", "size", "fits"),
    [
        (0, 1_310_000_000_000, True),
        (700, 1_310_000_000_000, True),
        (800, 1_310_000_000_000, False),
        (1400, 1_000_000_000, True),
        (1495, 1_000_000_000, False),
    ],
)
def test_pass_over_a_large_file_begins_while_most_of_a_slice_is_left(
    clock: Clock, gone_s: float, size: int, fits: bool
) -> None:
    piece_of_time = Slice(1500)
    clock.now += gone_s
    assert piece_of_time.has_time_to_read(size) is fits
