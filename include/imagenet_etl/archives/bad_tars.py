"""Class tars that a run may do without: noted, and counted against its budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imagenet_etl.archives.nested import BadTar
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import BadArchive

_NAMED = 10


class BadTars:
    """The class tars of one archive that are empty, truncated or damaged, and left out whole.

    Args:
        facts: The dataset.
        archive: The archive's name in the index.
        budget: How many there may be.

    Attributes:
        budget: How many there may be.
        found: What was left out, JSON-ready: ``wnid``, ``path`` (of the class tar), ``archive``,
            ``offset`` (of its content, in bytes), ``reason``.
    """

    def __init__(self, facts: DatasetFacts, archive: str, budget: int) -> None:
        self._pattern = facts.layout.class_tars
        self._archive = archive
        self.budget = budget
        self.found: list[dict[str, Any]] = []

    def add(self, bad: Iterable[BadTar]) -> None:
        """Note class tars that were left out.

        Raises:
            BadArchive: There are more than the budget allows.
        """
        for one in bad:
            self.found.append(self._row(one))
            if len(self.found) > self.budget:
                raise self._too_many() from one.error

    def go_on_from(self, found: list[dict[str, Any]]) -> None:
        """Take over what was found before, maybe by a run that allows more.

        Raises:
            BadArchive: There are more than the budget of this run allows.
        """
        self.found = list(found)
        if len(self.found) > self.budget:
            raise self._too_many()

    def _row(self, bad: BadTar) -> dict[str, Any]:
        match = self._pattern.fullmatch(bad.tar.name) if self._pattern else None
        error = bad.error
        return {
            "wnid": match["wnid"] if match else "",
            "path": bad.tar.name,
            "archive": self._archive,
            "offset": bad.tar.offset,
            "reason": f"{error.what}: found {error.found}" if error.found else error.what,
        }

    def _too_many(self) -> BadArchive:
        names = [row["path"] for row in self.found]
        others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
        return BadArchive(
            f"{self._archive} has more bad class tars than the run allows",
            expected=f"at most {self.budget} (max_bad_classes)",
            found=f"{', '.join(names[:_NAMED])}{others}; the last: {self.found[-1]['reason']}",
            remedy="Get the archive anew from its publisher, or allow more of them",
        )
