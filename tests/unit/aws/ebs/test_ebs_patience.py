"""A limit of EC2 is waited for, and not for ever."""

from pathlib import Path

import pytest
from tests.support.builds import tiny_build

from imagenet_etl.aws.ebs.patience import asking_at_most
from imagenet_etl.errors import AccessDenied, SnapshotFailed, StillPending
from imagenet_etl.stage import Place

HOUR_S, DAY_S = 3600.0, 24 * 3600.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tiny_build(tmp_path), {}, "d1", "work/tiny_imagenet/snapshot_ebs/d1")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that is seen, in seconds; the last entry counts."""
    times = [1e9]
    monkeypatch.setattr("imagenet_etl.aws.ebs.patience.time.time", lambda: times[-1])
    return times


def ask(place: Place, clock: list[float], times: int) -> None:
    """Ask every hour, and find that EC2 takes no snapshot now."""
    for _ in range(times):
        with pytest.raises(StillPending), asking_at_most(place, DAY_S):
            raise StillPending("CreateSnapshot has to wait", found="a limit")
        clock.append(clock[-1] + HOUR_S)


def fail(place: Place) -> None:
    told = pytest.raises(SnapshotFailed, match=r"has to wait.*a limit after 25\.0 h")
    with told, asking_at_most(place, DAY_S):
        raise StillPending("CreateSnapshot has to wait", found="a limit")


def test_limit_that_never_ends_meets_the_deadline(place: Place, clock: list[float]) -> None:
    ask(place, clock, 25)
    fail(place)


def test_next_run_after_the_deadline_has_all_its_time(place: Place, clock: list[float]) -> None:
    ask(place, clock, 25)
    fail(place)
    ask(place, clock, 25)


def test_time_in_which_nobody_asked_does_not_count(place: Place, clock: list[float]) -> None:
    ask(place, clock, 20)
    clock.append(clock[-1] + 7 * DAY_S)
    ask(place, clock, 25)


def test_success_and_other_errors_end_the_count(place: Place, clock: list[float]) -> None:
    ask(place, clock, 20)
    with asking_at_most(place, DAY_S):
        clock.append(clock[-1] + 1)
    ask(place, clock, 20)
    with pytest.raises(AccessDenied), asking_at_most(place, DAY_S):
        raise AccessDenied("no")
    ask(place, clock, 20)
