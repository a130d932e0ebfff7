import json
from dataclasses import asdict
from pathlib import Path

import pytest

from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.download.notes import Expected, Note, is_valid, read_note, write_note
from imagenet_etl.errors import ChecksumMismatch, SchemaTooNew
from imagenet_etl.storage import LocalStorage

KEY = "archives/a.zip.receipt.json"
MD5, SHA256 = "1" * 32, "2" * 64
DIGESTS = {"md5": MD5, "sha256": SHA256}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def note(storage: LocalStorage) -> Note:
    storage.put("archives/a.zip", b"PK")
    stat = storage.stat("archives/a.zip")
    assert stat is not None
    return Note(ArchiveRef("a.zip", "archives/a.zip", 2, stat.tag), "http://host/a", DIGESTS)


def test_note_is_read_as_written(storage: LocalStorage, note: Note) -> None:
    assert read_note(storage, KEY) is None
    write_note(storage, KEY, note)
    assert read_note(storage, KEY) == note


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"schema_version": 1}', b"\xff"])
def test_damaged_note_counts_as_none(storage: LocalStorage, data: bytes) -> None:
    storage.put(KEY, data)
    assert read_note(storage, KEY) is None


def test_note_of_a_newer_version_is_refused(storage: LocalStorage, note: Note) -> None:
    storage.put(KEY, json.dumps({"schema_version": 2} | asdict(note)).encode())
    with pytest.raises(SchemaTooNew):
        read_note(storage, KEY)


@pytest.mark.parametrize(
    ("source", "expected", "valid"),
    [
        ("http://host/a", Expected(), True),
        ("http://host/a", Expected(2, MD5, SHA256), True),
        ("http://mirror/a", Expected(), False),
        ("http://mirror/a", Expected(sha256=SHA256), True),
        ("http://host/a", Expected(size=3), False),
        ("http://host/a", Expected(md5="3" * 32), False),
        ("http://host/a", Expected(sha256="3" * 64), False),
    ],
)
def test_note_holds_for_what_it_proves(
    storage: LocalStorage, note: Note, source: str, expected: Expected, valid: bool
) -> None:
    assert is_valid(storage, note, source, expected) is valid


def test_note_of_a_changed_or_missing_archive_does_not_hold(
    storage: LocalStorage, note: Note
) -> None:
    storage.put("archives/a.zip", b"pk")
    assert not is_valid(storage, note, note.source, Expected())
    storage.delete("archives/a.zip")
    assert not is_valid(storage, note, note.source, Expected())


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (Expected(size=3000), ("3,000 bytes", "2 bytes")),
        (Expected(md5="3" * 32), ("md5 " + "3" * 32, MD5)),
        (Expected(2, MD5, "3" * 64), ("sha256 " + "3" * 64, SHA256)),
    ],
)
def test_mismatch_tells_what_was_expected_and_found(
    expected: Expected, told: tuple[str, str]
) -> None:
    with pytest.raises(ChecksumMismatch, match=r"a\.zip") as caught:
        expected.check("a.zip", 2, DIGESTS)
    assert (caught.value.expected, caught.value.found) == told


def test_empty_expectation_accepts_anything() -> None:
    Expected().check("a.zip", 2, DIGESTS)
    assert not Expected(size=2).is_proof
    assert Expected(md5=MD5).is_proof
