"""The journal of a download: what is being fetched, and which of its pieces are proven.

Its first line says what is downloaded; each further line holds the number and the SHA-256 of one
piece, in the order in which they were finished. Journals of schema 1 hold digests alone, of the
pieces from the first one on; they are read and go on as schema 2. What a download has been through
stands in the first line as well, as far as there is anything to tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

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
class Past:
    """What the download from one URL has been through, in however many slices and processes.

    Attributes:
        restarts: How often it had to start over since it was last complete.
        mismatches: How often it was complete and not what was expected.
        dropped_bytes: How much was fetched and dropped.
    """

    restarts: int = 0
    mismatches: int = 0
    dropped_bytes: int = 0

    def dropping(self, size: int) -> Past:
        """Return the past of one who drops so many bytes."""
        return replace(self, dropped_bytes=self.dropped_bytes + size)


@dataclass(frozen=True)
class Journal:
    """What a journal says.

    Attributes:
        remote: What is downloaded; without validator and length if it has not begun.
        piece_bytes: Length of a piece; the last one of the file may be shorter.
        proven: The SHA-256 of each finished piece, by its number.
        past: What came before.
    """

    remote: RemoteFile
    piece_bytes: int
    proven: dict[int, str]
    past: Past = Past()


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
        past = Past(*(_count(head.pop(field.name, 0)) for field in fields(Past)))
        remote = RemoteFile(**head)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not MIN_PIECE <= piece_bytes <= MAX_PIECE:
        return None
    return Journal(remote, piece_bytes, dict(_proven(lines, schema)), past)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _proven(lines: list[str], schema: int) -> Iterator[tuple[int, str]]:
    for order, line in enumerate(lines):
        match = _LINE[schema].fullmatch(line)
        if match is None:
            return
        yield int(match[1] or order), match[2]


def write_journal(path: Path, journal: Journal) -> None:
    """Replace the journal in one step: a crash or full disk here must not cost the pieces."""
    head = {"schema_version": JOURNAL_SCHEMA, "piece_bytes": journal.piece_bytes}
    past = {name: count for name, count in asdict(journal.past).items() if count}
    lines = [json.dumps(head | asdict(journal.remote) | past)]
    lines += [_line(*piece) for piece in sorted(journal.proven.items())]
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("".join(line + "\n" for line in lines))
    fsync_file(fresh)
    fresh.replace(path)
    fsync_folder(path.parent)


def _line(number: int, sha256: str) -> str:
    return f"{number} {sha256}"


class Logbook:
    """Keeps the journal of one partial file.

    Attributes:
        url: What the download is of, masked; empty while nobody knows.
        past: What it has been through.
    """

    def __init__(self, part: Path) -> None:
        self._path = journal_of(part)
        self.url = ""
        self.past = Past()

    def read(self) -> Journal | None:
        """Return what the journal says, or None if it cannot be used."""
        journal = read_journal(self._path)
        if journal is not None:
            self.url, self.past = journal.remote.url, journal.past
        return journal

    def write(self, remote: RemoteFile, piece_bytes: int, proven: dict[int, str]) -> None:
        """Note what is downloaded now, and what of it is proven."""
        if remote.url != self.url:
            self.url, self.past = remote.url, Past()
        write_journal(self._path, Journal(remote, piece_bytes, proven, self.past))

    def append(self, number: int, sha256: str) -> None:
        """Note one more piece, which must have been flushed before."""
        with self._path.open("a") as journal:
            journal.write(_line(number, sha256) + "\n")

    def drop(self, past: Past) -> None:
        """Note that nothing is there, and what came before; without a past there is no journal."""
        self.past = past
        if past == Past():
            self._path.unlink(missing_ok=True)
        else:
            self.write(RemoteFile(self.url, "", None), MIN_PIECE, {})
