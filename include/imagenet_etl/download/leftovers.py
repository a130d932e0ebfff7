"""What lies beside a partial file, and goes once the archive itself stands."""

from __future__ import annotations

from pathlib import Path

from imagenet_etl.download.journal import journal_of


def aside_of(path: Path) -> Path:
    """Return where a partial file with wrong content is put."""
    return path.with_suffix(".mismatch")


def remove_leftovers(path: Path) -> None:
    """Remove a partial file, its journal, and wrong content that was set aside."""
    for leftover in (path, journal_of(path), aside_of(path)):
        leftover.unlink(missing_ok=True)
