"""What was seen of the segments that a zombie was packing."""

from __future__ import annotations

from pathlib import Path

from cluster.leases import Holder, finished, holders
from cluster.processes import ClusterError


class Evidence:
    """Who held the zombies' segments when those were finished.

    Args:
        data: The run's data folder.
        segments: The segments that zombies were packing.
    """

    def __init__(self, data: Path, segments: set[str]) -> None:
        self.segments = segments
        self._data = data
        self._by: dict[str, Holder] = {}

    def look(self) -> dict[str, Holder]:
        """Note the present holders; return them.

        Raises:
            ClusterError: A segment is finished that nobody had taken over.
        """
        now = {name: one for name, one in holders(self._data).items() if name in self.segments}
        self._by |= now
        done = finished(self._data) & self.segments
        # A lease may not be readable in the moment that it changes hands; check() wants to have
        # seen each one's holder in the end.
        early = [name for name in done if name in self._by and not self._taken(name)]
        if early:
            raise ClusterError(f"published by a zombie: {early}: {self._by}")
        return now

    def check(self) -> None:
        """Make sure that each was taken over.

        Raises:
            ClusterError: One was not.
        """
        kept = {name: self._by.get(name) for name in self.segments if not self._taken(name)}
        if kept or not self.segments:
            raise ClusterError(f"segments that nobody took over from a zombie: {kept}")

    def _taken(self, name: str) -> bool:
        return name in self._by and self._by[name].attempt > 1

    def told(self) -> str:
        """Return holder and fence of each."""
        return ", ".join(
            f"{name[8:]} by try {one.attempt} of {one.claim}, fence {one.fence}"
            for name, one in sorted(self._by.items())
        )
