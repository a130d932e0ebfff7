"""The journal of a download: what is being fetched, and which of its pieces are proven.

Its first line says what is downloaded; each further line holds the number and the SHA-256 of one
piece, in the order in which they were finished. Journals of schema 1 hold digests alone, of the
pieces from the first one on; they are read and go on as schema 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from imagenet_etl.files import fsync_file, fsync_folder

MAX_PIECE, MIN_PIECE = 64 << 20, 1 << 20
JOURNAL_SCHEMA = 2
_IN_ORDER_SCHEMA = 1
_LINE = {
    _IN_ORDER_SCHEMA: re.compile(r"()([0-9a-f]{64})"),
    JOURNAL_SCHEMA: re.compile(r"(0|[1-9]\d{0,11}) ([0-9a-f]{64})"),
}


@dataclass(frozen=True)
class RemoteFile:
    """What identifies the file on the server.

    Attributes:
        url: The masked URL.
        validator: A strong ETag or a Last-Modified date, for ``If-Range``; empty for neither.
        total: Its length in bytes, None when the server does not say.
    """

    url: str
    validator: str
    total: int | None


@dataclass(frozen=True)
class Journal:
    """What a journal says.

    Attributes:
        remote: What is downloaded.
        piece_bytes: Length of a piece; the last one of the file may be shorter.
        proven: The SHA-256 of each finished piece, by its number.
    """

    remote: RemoteFile
    piece_bytes: int
    proven: dict[int, str]


def journal_of(part: Path) -> Path:
    """Return where the journal of a partial file is."""
    return part.with_name(part.name + ".journal")


def read_journal(path: Path) -> Journal | None:
    """Return what a journal says, or None if it cannot be used.

    Pieces end at the first line that is not one: it is torn, and so is all behind it.
    """
    try:
        first, *lines = path.read_text().splitlines()
        head = json.loads(first)
        schema = head.pop("schema_version")
        if schema not in _LINE:
            return None
        piece_bytes = int(head.pop("piece_bytes"))
        remote = RemoteFile(**head)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not MIN_PIECE <= piece_bytes <= MAX_PIECE:
        return None
    return Journal(remote, piece_bytes, dict(_proven(lines, schema)))


def _proven(lines: list[str], schema: int) -> Iterator[tuple[int, str]]:
    for order, line in enumerate(lines):
        match = _LINE[schema].fullmatch(line)
        if match is None:
            return
        yield int(match[1] or order), match[2]


def write_journal(path: Path, journal: Journal) -> None:
    """Replace the journal in one step: a crash or full disk here must not cost the pieces."""
    head = {"schema_version": JOURNAL_SCHEMA, "piece_bytes": journal.piece_bytes}
    lines = [json.dumps(head | asdict(journal.remote))]
    lines += [_line(*piece) for piece in sorted(journal.proven.items())]
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("".join(line + "\n" for line in lines))
    fsync_file(fresh)
    fresh.replace(path)
    fsync_folder(path.parent)


def append_piece(path: Path, number: int, sha256: str) -> None:
    """Note one more piece, which must have been flushed before."""
    with path.open("a") as journal:
        journal.write(_line(number, sha256) + "\n")


def _line(number: int, sha256: str) -> str:
    return f"{number} {sha256}"
