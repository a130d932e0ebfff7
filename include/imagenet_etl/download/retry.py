"""Patience with a server: jittered exponential backoff within a budget of time without progress."""

from __future__ import annotations

import email.utils
import logging
import math
import random
import time
from dataclasses import dataclass, field

from imagenet_etl.errors import SourceUnavailable

log = logging.getLogger(__name__)


class TransientAnswer(Exception):
    """A failure worth retrying.

    Attributes:
        retry_after_s: What the server asked for.
        answered: Whether there was a server at all.
        midway: Whether something had arrived before.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, answered: bool = True) -> None:
        self.retry_after_s = retry_after_s
        self.answered = answered
        self.midway = False
        super().__init__(reason)


class StrayAnswer(TransientAnswer):
    """One answer against all before it, from one of many servers behind a name, as it may be."""


@dataclass
class Patience:
    """How long to keep trying while nothing arrives.

    Attributes:
        budget_s: Longest time without a new byte.
        first_budget_s: The same while no server has answered at all: a wrong address shows soon.
        base_s: First upper bound of a delay; it doubles with every failure.
        cap_s: Longest delay that is not asked for by the server.
    """

    budget_s: float = 600.0
    first_budget_s: float = 60.0
    base_s: float = 1.0
    cap_s: float = 60.0
    _failures: int = field(default=0, init=False)
    _since: float = field(default_factory=time.monotonic, init=False)
    _furthest: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Start the budget: what went on before the download does not count against it."""
        self._failures = self._furthest = 0
        self._since = time.monotonic()

    def progressed(self, at: int) -> None:
        """Note that ``at`` bytes of the file are there: if that is news, the budget starts anew.

        Bytes that arrive a second time are no progress, or a server that ignores ranges and drops
        every connection would be asked for ever.
        """
        if at > self._furthest:
            self._furthest, self._failures, self._since = at, 0, time.monotonic()

    def wait(self, url: str, failure: TransientAnswer, longest_s: float = math.inf) -> bool:
        """Sleep before the next attempt: a random part of the bound, so that clients spread out.

        Returns:
            Whether it did; False, at once, if that would have taken longer than ``longest_s``.

        Raises:
            SourceUnavailable: The wait would overdraw the budget.
        """
        bound = min(self.cap_s, self.base_s * 2 ** min(self._failures, 32))
        delay = max(random.uniform(0, bound), failure.retry_after_s)
        self._failures += 1
        idle = time.monotonic() - self._since
        self._answered = self._answered or failure.answered
        known = self._answered or self._furthest > 0
        budget = self.budget_s if known else min(self.first_budget_s, self.budget_s)
        if idle + delay > budget:
            asked = f", told to wait {failure.retry_after_s:.0f} s" if failure.retry_after_s else ""
            raise SourceUnavailable(
                f"{url} is not available",
                expected=f"an answer within {budget:g} s",
                found=f"{failure} (failure {self._failures}, nothing new for {idle:.0f} s{asked})",
                remedy="Run again later: what has arrived is kept; or give another --source",
            )
        if delay > longest_s:
            return False
        log.warning("%s: %s; trying again in %.1f s", url, failure, delay)
        time.sleep(delay)
        return True


def retry_after_s(header: str) -> float:
    """Return the seconds that a Retry-After header asks for; 0 when it is absent or unreadable.

    It is a number of seconds or a date (RFC 9110, section 10.2.3).
    """
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
