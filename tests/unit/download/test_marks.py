"""URLs that differ only in query values: told apart, and the values written nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.archives import tiny_zip
from tests.support.builds import tiny_build
from tests.support.fault_server import Answer, FaultServer

from imagenet_etl.build import Build
from imagenet_etl.datasets import facts_of
from imagenet_etl.download.asked import source_marks
from imagenet_etl.download.marks import mark_of
from imagenet_etl.download.notes import Expected, read_note, still_meets
from imagenet_etl.pipeline import run_stage
from imagenet_etl.stage import Outcome
from imagenet_etl.storage import LocalStorage

ARCHIVE = facts_of("tiny_imagenet").archives[0].name
FOLDER = "archives/tiny_imagenet"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "data")


def mark(storage: LocalStorage, source: str) -> str:
    return mark_of(storage, FOLDER, source)


def test_mark_is_that_of_host_path_and_query(storage: LocalStorage) -> None:
    first = mark(storage, "http://h/a?id=a")
    assert first == mark(storage, "http://h/a?id=a")
    others = ["http://h/a?id=b", "http://h/a?id", "http://h/b?id=a", "http://g/a?id=a"]
    assert len({first, *(mark(storage, url) for url in others)}) == 5
    assert len(first) == 12


def test_user_and_password_are_no_part_of_it(storage: LocalStorage) -> None:
    assert mark(storage, "http://u:p@h/a?id=a") == mark(storage, "http://h/a?id=a")


def test_url_without_a_query_has_none_and_costs_no_salt(storage: LocalStorage) -> None:
    assert mark(storage, "http://u:p@h/a") == ""
    assert list(storage.list(".")) == []


def test_mark_means_nothing_in_another_data_folder(storage: LocalStorage, tmp_path: Path) -> None:
    other = LocalStorage(tmp_path / "other")
    assert mark(storage, "http://h/a?id=a") != mark(other, "http://h/a?id=a")
    assert mark(LocalStorage(tmp_path / "data"), "http://h/a?id=a") == mark(
        storage, "http://h/a?id=a"
    )


def test_proven_sources_and_paths_need_no_mark(tmp_path: Path) -> None:
    def marks(source: str, expect: str = "any") -> dict[str, str]:
        return source_marks(tiny_build(tmp_path, sources={ARCHIVE: source}, expect=expect))

    assert marks("http://h/a?id=a", "published") == {}
    assert marks(f"http://h/a?id=a#sha256={'0' * 64}") == {}
    assert marks("/odd?name.zip") == {}
    assert list(marks("http://h/a?id=a")) == [ARCHIVE]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    (tmp_path / "site").mkdir()
    with FaultServer(tiny_zip(tmp_path / "site").read_bytes()) as running:
        # Nothing tells one answer from another.
        running.always = running.head = Answer(headers={"ETag": None, "Last-Modified": None})
        yield running


def build_of(tmp_path: Path, server: FaultServer, query: str) -> Build:
    source = f"{server.url}?{query}"
    return tiny_build(tmp_path / "data", sources={ARCHIVE: source}, expect="any")


def downloaded(tmp_path: Path, server: FaultServer, query: str) -> Outcome:
    return run_stage(build_of(tmp_path, server, query), "download")


def test_other_query_value_is_another_source(tmp_path: Path, server: FaultServer) -> None:
    first = downloaded(tmp_path, server, "id=a").receipt
    server.content = tiny_zip(tmp_path / "site", {"words.txt": b"other"}).read_bytes()
    second = downloaded(tmp_path, server, "id=b").receipt
    assert len(server.requests) == 2
    assert first.outputs[0].sha256 != second.outputs[0].sha256
    assert downloaded(tmp_path, server, "id=a").receipt.digest == first.digest
    assert downloaded(tmp_path, server, "id=b").reused
    assert len(server.requests) == 2


def test_value_is_in_no_file_and_its_mark_in_note_and_receipt(
    tmp_path: Path, server: FaultServer
) -> None:
    build = build_of(tmp_path, server, "id=CANARY")
    receipt = run_stage(build, "download").receipt
    (told,) = receipt.settings["source_marks"].values()
    note = read_note(
        build.storage, f"{receipt.facts['archives'][ARCHIVE]['location']}.receipt.json"
    )
    assert note is not None
    assert note.mark == told
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert [path for path in files if b"CANARY" in path.read_bytes()] == []


def test_note_of_another_mark_holds_only_where_a_digest_proves_it(
    tmp_path: Path, server: FaultServer
) -> None:
    build = build_of(tmp_path, server, "id=a")
    receipt = run_stage(build, "download").receipt
    note = read_note(
        build.storage, f"{receipt.facts['archives'][ARCHIVE]['location']}.receipt.json"
    )
    assert note is not None
    assert still_meets(note, note.source, Expected(), note.mark)
    assert not still_meets(note, note.source, Expected(), "0" * 12)
    assert still_meets(note, note.source, Expected(sha256=note.sha256), "0" * 12)
