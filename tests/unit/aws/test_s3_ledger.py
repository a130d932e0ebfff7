"""What a data folder remembers of a bucket."""

from pathlib import Path

import pytest

from imagenet_etl.aws.s3_bucket import Listed, LocalFile
from imagenet_etl.aws.s3_ledger import Ledger, Seen, seen
from imagenet_etl.storage import LocalStorage

FILE = LocalFile("data/b", Path("/b"), 3, "ab" * 32)
ROW = seen(FILE, '"etag"')


def row(key: str) -> tuple[str, Seen]:
    return key, ROW[1]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def ledger(storage: LocalStorage) -> Ledger:
    ledger = Ledger(storage, "work/ledger")
    ledger.plan([ROW])
    ledger.keep()
    return ledger


def test_object_with_the_noted_etag_is_vouched_for() -> None:
    assert ROW[1].is_of(FILE, Listed(3, "etag"))


@pytest.mark.parametrize("listed", [Listed(3, "other"), Listed(4, "etag")])
def test_object_that_was_written_anew_is_not(listed: Listed) -> None:
    assert not ROW[1].is_of(FILE, listed)


def test_file_with_another_digest_is_not() -> None:
    other = LocalFile(FILE.key, FILE.path, 3, "cd" * 32)
    assert not ROW[1].is_of(other, Listed(3, "etag"))


def test_batches_that_were_sent_are_read_in_the_order_of_their_keys(
    storage: LocalStorage, ledger: Ledger
) -> None:
    ledger.add([row("data/c"), row("data/a")])
    ledger.add([row("data/d")])
    again = Ledger(storage, "work/ledger")
    assert [key for key, _ in again] == ["data/a", "data/b", "data/c", "data/d"]
    assert again.count() == 4


def test_plan_that_is_not_kept_changes_nothing(storage: LocalStorage, ledger: Ledger) -> None:
    ledger.plan([])
    assert list(Ledger(storage, "work/ledger")) == [ROW]


def test_next_plan_replaces_what_was_known(storage: LocalStorage, ledger: Ledger) -> None:
    ledger.add([row("data/c")])
    ledger.plan([row("data/c")])
    ledger.keep()
    assert list(Ledger(storage, "work/ledger")) == [row("data/c")]


def test_ledger_of_another_place_says_nothing(storage: LocalStorage, ledger: Ledger) -> None:
    assert list(Ledger(storage, "work/other")) == []
    assert Ledger(storage, "work/other").count() == 0


def test_damaged_ledger_is_as_good_as_none(
    storage: LocalStorage, ledger: Ledger, tmp_path: Path
) -> None:
    (path,) = tmp_path.glob("work/ledger/*")
    path.write_bytes(path.read_bytes()[:-40])
    assert list(Ledger(storage, "work/ledger")) == []
    assert Ledger(storage, "work/ledger").count() == 0
