"""What is known of a verified archive, kept so that its terabyte is hashed only once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.errors import ChecksumMismatch
from imagenet_etl.files import check_schema, pretty_json
from imagenet_etl.storage import Storage

NOTE_SCHEMA = 1
ALGORITHMS = ("md5", "sha256")
LENGTH_ALONE = "length"
"""The validator of what came from a backup, which does not know its publisher's."""


@dataclass(frozen=True)
class Expected:
    """What an archive must be, as far as it is known; empty fields are not checked."""

    size: int | None = None
    md5: str = ""
    sha256: str = ""

    def check_size(self, what: str, size: int) -> None:
        """Compare the size alone, before a terabyte is hashed.

        Raises:
            ChecksumMismatch: It differs.
        """
        if self.size not in (None, size):
            raise _mismatch(what, f"{self.size:,} bytes", f"{size:,} bytes")

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Which digests have to be computed: SHA-256 always, others only to be compared."""
        return ("md5", "sha256") if self.md5 else ("sha256",)

    @property
    def is_proof(self) -> bool:
        """Whether a digest decides, so that it does not matter where the bytes came from."""
        return bool(self.md5 or self.sha256)

    def check(self, what: str, size: int, digests: dict[str, str]) -> None:
        """Compare with what was found; ``what`` names it in the error.

        Raises:
            ChecksumMismatch: Size or digest differ.
        """
        self.check_size(what, size)
        for name in ALGORITHMS:
            wanted = getattr(self, name)
            found = digests.get(name, "none")  # an earlier run may not have needed this one
            if wanted and wanted != found:
                raise _mismatch(what, f"{name} {wanted}", found)


def _mismatch(what: str, expected: str, found: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{what} is not the published file",
        expected=expected,
        found=found,
        remedy="It is damaged or another file: get it again; for a sample, --expect any",
    )


@dataclass(frozen=True)
class Note:
    """One archive that was verified.

    Attributes:
        archive: Where it is, with the size and tag it had.
        source: The masked URL or the path it came from.
        digests: Hex digests by algorithm; for a folder ``listing_sha256``, over names and sizes;
            for a tar that was unpacked from a gzip file also that one's, as ``packed_md5`` and
            ``packed_sha256``.
        validator: The strong ETag or the Last-Modified date that it was fetched with; empty for
            none, and in the notes of older versions; or ``LENGTH_ALONE``.
        released: Whether it was deleted after use; the note then tells what it was. That of a tar
            that was unpacked loses its tag as soon as the tar is gone.
        mark: Stands for the query values of the URL, which ``source`` does not show.
        fetched: Whether this project put it where it is, fetched or unpacked; None in the notes of
            older versions.
    """

    archive: ArchiveRef
    source: str
    digests: dict[str, str]
    validator: str = ""
    released: bool = False
    mark: str = ""
    fetched: bool | None = None

    @property
    def sha256(self) -> str:
        """The digest that identifies it."""
        return self.digests.get("sha256") or self.digests["listing_sha256"]

    @property
    def is_ours(self) -> bool:
        """Whether it was fetched, not put there by the user; only an answer has a validator."""
        return bool(self.validator) if self.fetched is None else self.fetched


def note_key_of(key: str) -> str:
    """Return where the note of a fetched archive is: beside it."""
    return f"{key}.receipt.json"


def write_note(storage: Storage, key: str, note: Note) -> None:
    """Store a note, replacing an older one."""
    storage.put(key, pretty_json({"schema_version": NOTE_SCHEMA} | asdict(note)))


def read_note(storage: Storage, key: str) -> Note | None:
    """Return a note, or None when there is none that can be read.

    Raises:
        SchemaTooNew: A newer version of this project wrote it.
    """
    try:
        fields = json.loads(storage.read(key) or b"")
        check_schema(key, fields.pop("schema_version"), NOTE_SCHEMA)
        return Note(**fields | {"archive": ArchiveRef(**fields["archive"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: the archive is simply verified again


def is_valid(storage: Storage, note: Note, source: str, expected: Expected, mark: str = "") -> bool:
    """Return whether the note's archive is unchanged and still meets what is expected.

    Args:
        storage: Where archives are.
        note: What was noted.
        source: The masked source of this run; another one voids an archive that no digest proves.
        expected: What this run demands.
        mark: Stands for what the masked source does not show.
    """
    return note.archive.is_unchanged(storage) and still_meets(note, source, expected, mark)


def still_meets(note: Note, source: str, expected: Expected, mark: str = "") -> bool:
    """Return whether what was noted, wherever the archive is now, is what a run asks for."""
    if (note.source, note.mark) != (source, mark) and not expected.is_proof:
        return False
    try:
        expected.check(note.archive.name, note.archive.size, note.digests)
    except ChecksumMismatch:
        return False
    return True
