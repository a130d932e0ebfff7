"""A thread that falls asleep in the middle of its work, as a process does that is suspended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

_PATIENCE_S = 60.0


@dataclass
class Sleeper:
    """What became of the thread.

    Attributes:
        may_sleep: Whether the thread may fall asleep yet.
        calls: How often it made one of the calls in which it might have fallen asleep.
        slept: Whether it did; if not, its work has ended before.
        is_done: Set by the work when nothing is left but to give back what it holds.
        slept_done: Whether it was so when it fell asleep.
        ended: What it ended in: nothing yet, None, or an error.
    """

    may_sleep: bool = True
    calls: int = 0
    slept: bool = False
    is_done: bool = False
    slept_done: bool = False
    ended: list[BaseException | None] = field(default_factory=list)


@contextmanager
def asleep_in(
    places: dict[Any, tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Sleeper], None],
    call: int = 1,
) -> Iterator[Sleeper]:
    """Do some work in a thread that sleeps before one of its calls; it wakes with the block's end.

    Args:
        places: In which calls it may fall asleep: their names by module or class.
        monkeypatch: Puts the calls back.
        work: What the thread does; it may set ``may_sleep``.
        call: In which of its calls it sleeps, counted from 1.
    """
    sleeper, stopped, go_on = Sleeper(), threading.Event(), threading.Event()

    def run() -> None:
        try:
            work(sleeper)
        except BaseException as error:  # noqa: BLE001 - told to the test
            sleeper.ended.append(error)
        else:
            sleeper.ended.append(None)
        finally:
            stopped.set()

    def sleepy(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is thread and sleeper.may_sleep:
                sleeper.calls += 1
                if sleeper.calls == call:
                    sleeper.slept, sleeper.slept_done = True, sleeper.is_done
                    stopped.set()
                    assert go_on.wait(_PATIENCE_S), "the work that is awake takes too long"
            return real(*args, **kwargs)

        return wrapped

    thread = threading.Thread(target=run)
    with monkeypatch.context() as patched:
        for owner, names in places.items():
            for name in names:
                patched.setattr(owner, name, sleepy(getattr(owner, name)))
        thread.start()
        assert stopped.wait(_PATIENCE_S)
        try:
            yield sleeper
        finally:
            go_on.set()
            thread.join(_PATIENCE_S)
    assert not thread.is_alive()
