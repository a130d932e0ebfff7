"""What prune did, or would do, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from imagenet_etl.datastore.copies import Copy
from imagenet_etl.datastore.listing import size_in_words
from imagenet_etl.errors import CloudError


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be.

    Attributes:
        really: Whether it was; otherwise nothing was changed.
        versions: The versions of which nothing is left, newest first.
        copies: What went of them, and of those of which something could not be removed.
        kept: Why each of the others stays, by version.
        troubles: What could not be removed; the next run tries again.
        notes: What else there is to tell, such as what bears a version's name and stays.
    """

    really: bool
    versions: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    troubles: tuple[CloudError, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usd_a_month(self) -> float:
        """About what they cost a month: what else needs a snapshot's blocks is not known."""
        return sum(copy.usd_a_month for copy in self.copies)

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        verb = "removed" if self.really else "would remove"
        for copy in self.copies:
            bound = f"{copy.bound} " if copy.bound else ""
            price = f", {copy.usd_a_month:,.2f} USD a month" if copy.usd_a_month else ""
            where = f" in {copy.region}" if copy.region else ""
            yield (
                f"{verb} {copy.version}: {copy.kind} {copy.name}{where}, "
                f"{bound}{size_in_words(copy.size)}{price}"
            )
        for version, reason in self.kept.items():
            yield f"keeps {version}: {reason}"
        for trouble in self.troubles:
            yield f"left: {trouble}"
        for note in self.notes:
            yield f"note: {note}"
        size = size_in_words(sum(copy.size for copy in self.copies))
        others = len({copy.version for copy in self.copies} - set(self.versions))
        more = f" and copies of {others:,} more" if others else ""
        yield (
            f"{verb} {len(self.versions):,} versions{more}, about {size}, which saves about "
            f"{self.usd_a_month:,.2f} USD a month at list prices"
        )
