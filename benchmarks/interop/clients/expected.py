"""What the clients compare with; the standard library only."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

SKIPPED = 77
"""Exit code of a client that cannot run here; the last line says why."""

VERSION = Path(sys.argv[1])
_ROWS = json.loads(Path(sys.argv[2]).read_text())


def rows_of(output: str) -> list[dict]:
    """Return the rows of one output, of which there must be some."""
    rows = [row for row in _ROWS if row["output"] == output]
    assert rows, f"records.parquet has no rows of {output}"
    return rows


def name_of(row: dict) -> str:
    """Return a record's file name."""
    return row["member"].rpartition("/")[2]


def sha256(data: bytes) -> str:
    """Return the hex digest."""
    return hashlib.sha256(data).hexdigest()


def same(what: str, found: object, expected: object) -> None:
    """Refuse anything that is not equal."""
    assert found == expected, f"{what}: expected {expected!r:.300}, found {found!r:.300}"


def same_items(what: str, found: list, expected: list) -> None:
    """Refuse lists that do not hold the same items, in whatever order."""
    same(f"number of {what}", len(found), len(expected))
    missing = Counter(expected) - Counter(found)
    assert not missing, f"{what}: {sum(missing.values())} not found, such as {next(iter(missing))}"


def skip(reason: object) -> None:
    """End this client as skipped."""
    tell(reason)
    sys.exit(SKIPPED)


def tell(text: object) -> None:
    """Say what was found; the last line is shown."""
    sys.stdout.write(f"{text}\n")
