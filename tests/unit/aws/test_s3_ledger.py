"""What a data folder remembers of a bucket."""

from pathlib import Path

import pytest

from imagenet_etl.aws.s3_bucket import Listed, LocalFile
from imagenet_etl.aws.s3_ledger import Ledger
from imagenet_etl.storage import LocalStorage

FILE = LocalFile("data/a", Path("/a"), 3, "ab" * 32)
URI = "s3://backups/data"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def kept(storage: LocalStorage) -> Ledger:
    ledger = Ledger(storage, "work/ledger", URI)
    ledger.note(FILE, '"etag"')
    ledger.keep()
    return Ledger(storage, "work/ledger", URI)


def test_object_with_the_noted_etag_is_vouched_for(storage: LocalStorage) -> None:
    assert kept(storage).vouches_for(FILE, Listed(3, "etag"))


@pytest.mark.parametrize("listed", [Listed(3, "other"), Listed(4, "etag")])
def test_object_that_was_written_anew_is_not(storage: LocalStorage, listed: Listed) -> None:
    assert not kept(storage).vouches_for(FILE, listed)


def test_file_with_another_digest_is_not(storage: LocalStorage) -> None:
    other = LocalFile(FILE.key, FILE.path, 3, "cd" * 32)
    assert not kept(storage).vouches_for(other, Listed(3, "etag"))


def test_ledger_of_another_place_says_nothing(storage: LocalStorage) -> None:
    kept(storage)
    other = Ledger(storage, "work/ledger", "s3://other/data")
    assert not other.vouches_for(FILE, Listed(3, "etag"))


def test_later_backup_adds_to_the_ledger(storage: LocalStorage) -> None:
    ledger = kept(storage)
    more = LocalFile("data/b", Path("/b"), 4, "cd" * 32)
    ledger.note(more, '"two"')
    ledger.keep()
    again = Ledger(storage, "work/ledger", URI)
    assert again.vouches_for(FILE, Listed(3, "etag"))
    assert again.vouches_for(more, Listed(4, "two"))


def test_damaged_ledger_is_as_good_as_none(storage: LocalStorage, tmp_path: Path) -> None:
    kept(storage)
    (path,) = tmp_path.glob("work/ledger/*")
    path.write_bytes(path.read_bytes()[:-40])
    assert not Ledger(storage, "work/ledger", URI).vouches_for(FILE, Listed(3, "etag"))
