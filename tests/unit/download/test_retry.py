import email.utils
import time

import pytest

from imagenet_etl.download.retry import Patience, TransientAnswer, retry_after_s
from imagenet_etl.errors import SourceUnavailable

BUSY = TransientAnswer("HTTP 503")


def test_seconds_are_read() -> None:
    assert retry_after_s("120") == 120.0


def test_date_is_read_as_the_time_until_then() -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55.0 < retry_after_s(in_a_minute) <= 60.0


@pytest.mark.parametrize(
    "header", ["", "soon", "-5", "1.5", "²", "Tue, 10 Feb 2015 08:00:00 GMT", "31 Feb 2015"]
)
def test_past_and_unreadable_headers_ask_for_nothing(header: str) -> None:
    assert retry_after_s(header) == 0.0


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stop the clock: a test sees the delays and does not wait for them."""
    delays: list[float] = []

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            delays.append(seconds)
            self.now += seconds

    monkeypatch.setattr("imagenet_etl.download.retry.time", Clock())
    return delays


def wait_until_given_up(patience: Patience, failure: TransientAnswer = BUSY) -> SourceUnavailable:
    patience.begin()
    with pytest.raises(SourceUnavailable) as caught:
        for _ in range(10_000):
            patience.wait("http://host/a", failure)
    return caught.value


def test_delays_grow_within_doubling_bounds_up_to_the_cap(slept: list[float]) -> None:
    wait_until_given_up(Patience(budget_s=2000.0, base_s=1.0, cap_s=60.0))
    bounds = [min(60.0, 2.0**n) for n in range(len(slept))]
    assert all(delay <= bound for delay, bound in zip(slept, bounds, strict=True))
    assert max(slept) > 16.0
    assert len(set(slept)) == len(slept)  # jitter


def test_waits_never_overdraw_the_budget(slept: list[float]) -> None:
    error = wait_until_given_up(Patience(budget_s=100.0))
    assert sum(slept) <= 100.0
    assert "http://host/a" in str(error)
    assert "HTTP 503" in error.found


def test_server_decides_when_it_asks_for_more_than_the_bound(slept: list[float]) -> None:
    wait_until_given_up(Patience(budget_s=100.0), TransientAnswer("HTTP 429", 40.0))
    assert slept == [40.0, 40.0]


def test_new_bytes_start_the_budget_anew_and_old_ones_do_not(slept: list[float]) -> None:
    patience = Patience(budget_s=10.0)
    asked = TransientAnswer("HTTP 429", 6.0)
    patience.begin()
    for at in (100, 200, 300):
        patience.progressed(at)
        patience.wait("url", asked)
    patience.progressed(300)
    with pytest.raises(SourceUnavailable):
        patience.wait("url", asked)
    assert slept == [6.0, 6.0, 6.0]


def test_time_before_the_download_does_not_count(slept: list[float]) -> None:
    patience = Patience(budget_s=10.0)
    wait_until_given_up(patience)
    patience.begin()
    patience.wait("url", TransientAnswer("HTTP 429", 9.0))
    assert slept[-1] == 9.0


def test_many_failures_in_a_row_do_not_overflow(slept: list[float]) -> None:
    patience = Patience(budget_s=1e9, base_s=1.0, cap_s=0.001)
    for _ in range(1100):
        patience.wait("url", BUSY)
    assert len(slept) == 1100


def test_wait_that_would_take_too_long_is_not_begun(slept: list[float]) -> None:
    patience = Patience(budget_s=100.0)
    assert not patience.wait("url", TransientAnswer("HTTP 429", 40.0), longest_s=39.0)
    assert slept == []
    assert patience.wait("url", TransientAnswer("HTTP 429", 38.0), longest_s=39.0)
    assert slept == [38.0]


def test_address_without_a_server_is_given_up_sooner(slept: list[float]) -> None:
    patience = Patience(budget_s=600.0, first_budget_s=10.0)
    silence = TransientAnswer("name not known", 4.0, answered=False)
    wait_until_given_up(patience, silence)
    assert slept == [4.0, 4.0]
    slept.clear()
    patience.begin()
    patience.wait("url", TransientAnswer("HTTP 503", 4.0))
    for _ in range(5):
        patience.wait("url", silence)
    assert len(slept) == 6
