"""Archives that are let go after use: what was ours alone, and never what has to be asked twice."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.downloads import CONTENT, FACTS, OTHER, SHA256, Run, quick
from tests.support.fault_server import FaultServer

from imagenet_etl import leases
from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.notes import read_note, write_note
from imagenet_etl.download.release import is_released, release_archive
from imagenet_etl.files import digest_of
from imagenet_etl.leases import Owner


@pytest.fixture
def run(run: Run, server: FaultServer) -> Run:
    """A run that has fetched the archive, of which nobody knows a digest."""
    run.place = digest_of(server.url)[:12]
    verified_archive(run.build(server.url), FACTS, quick())
    return run


def release(run: Run, server: FaultServer) -> int:
    return release_archive(run.build(server.url), FACTS)


def test_released_archive_is_gone_and_its_note_stays(run: Run, server: FaultServer) -> None:
    build = run.build(server.url)
    before = noted(build, FACTS)
    assert before is not None
    assert release(run, server) == len(CONTENT)
    assert not run.final.exists()
    assert noted(build, FACTS) is None
    after = noted(build, FACTS, released_ok=True)
    assert after is not None
    assert (after.released, after.archive, after.digests) == (True, before.archive, before.digests)
    assert is_released(build.storage, before.archive, before.sha256)
    assert release(run, server) == 0


def test_leftover_part_is_let_go_as_well(run: Run, server: FaultServer) -> None:
    run.part.hardlink_to(run.final)
    release(run, server)
    assert not run.part.exists()


class Killed(BaseException):
    pass


@pytest.fixture
def crashed(run: Run, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that died between marking the note and deleting the archive."""
    build = run.build(server.url)

    def killed(key: str) -> None:
        if key == f"archives/tiny_imagenet/{run.place}/{FACTS.name}":
            raise Killed

    monkeypatch.setattr(build.storage, "delete", killed)
    with pytest.raises(Killed):
        release_archive(build, FACTS)
    assert run.final.exists()
    return run


def test_crash_between_is_finished_by_the_next_call(crashed: Run, server: FaultServer) -> None:
    assert release(crashed, server) == len(CONTENT)
    assert not crashed.final.exists()


def test_archive_whose_release_crashed_is_used_as_it_is(crashed: Run, server: FaultServer) -> None:
    build = crashed.build(server.url)
    note = noted(build, FACTS)
    assert note is not None
    assert not note.released
    assert verified_archive(build, FACTS, quick()) == (note, 0)
    crashed.final.unlink()
    assert noted(build, FACTS, released_ok=True) is None  # lost, no longer let go
    assert not is_released(build.storage, note.archive, note.sha256)


def test_released_archive_is_fetched_again_when_it_is_needed(run: Run, server: FaultServer) -> None:
    release(run, server)
    note, count = verified_archive(run.build(server.url), FACTS, quick())
    assert (count, note.released) == (len(CONTENT), False)
    run.assert_complete()


def test_refetch_accepts_another_archive_where_no_digest_is_demanded(
    run: Run, server: FaultServer
) -> None:
    release(run, server)
    server.content = OTHER
    verified_archive(run.build(server.url), FACTS, quick())
    run.assert_complete(OTHER)


def test_change_upstream_is_noticed_of_a_released_archive(run: Run, server: FaultServer) -> None:
    release(run, server)
    assert not upstream_changed(run.build(server.url), FACTS)
    server.content = OTHER
    assert upstream_changed(run.build(server.url), FACTS)


def test_archive_that_changed_since_is_not_ours_to_delete(run: Run, server: FaultServer) -> None:
    run.final.write_bytes(OTHER)
    assert release(run, server) == 0
    assert run.final.read_bytes() == OTHER


def test_archive_of_another_digest_is_kept(server: FaultServer, tmp_path: Path) -> None:
    run = Run(tmp_path / "other")
    run(server.url)
    assert release(run, server) == 0
    wrong = f"{server.url}#sha256={SHA256[:12]}{'0' * 52}"
    assert release_archive(run.build(wrong), FACTS) == 0
    assert run.final.exists()


def test_archive_in_use_by_another_run_is_kept(
    run: Run, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    build = run.build(server.url)
    other = Owner("somebody-else")
    lease = leases.acquire(build.storage, f"{build.work}/locks/download-{FACTS.name}", other)
    assert release(run, server) == 0
    assert "is kept" in caplog.text
    lease.release()
    assert release(run, server) == len(CONTENT)


@pytest.mark.parametrize(("validator", "freed"), [('"etag"', len(CONTENT)), ("", 0)])
def test_note_of_an_older_version_tells_what_was_fetched_by_its_validator(
    run: Run, server: FaultServer, validator: str, freed: int
) -> None:
    storage = run.build(server.url).storage
    key = f"archives/tiny_imagenet/{run.place}/{FACTS.name}.receipt.json"
    note = read_note(storage, key)
    assert note is not None
    assert note.fetched
    write_note(storage, key, replace(note, fetched=None, validator=validator))
    assert release(run, server) == freed
    assert run.final.exists() == (freed == 0)


def test_fetched_archive_that_was_restored_by_hand_is_kept(run: Run, server: FaultServer) -> None:
    run.final.unlink()
    run.final.write_bytes(CONTENT)
    assert verified_archive(run.build(server.url), FACTS, quick())[1] == 0
    assert release(run, server) == 0
    assert run.final.read_bytes() == CONTENT


def test_archive_of_other_bytes_does_not_count_as_released(run: Run, server: FaultServer) -> None:
    build = run.build(server.url)
    before = noted(build, FACTS)
    assert before is not None
    release(run, server)
    assert is_released(build.storage, replace(before.archive, tag="1"), before.sha256)
    assert not is_released(build.storage, before.archive, "0" * 64)
    assert not is_released(build.storage, replace(before.archive, size=1), before.sha256)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_used_in_place_is_never_touched(run: Run, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    file = place / "a.zip"
    file.write_bytes(CONTENT)
    build = run.build(str(file if kind == "file" else place))
    verified_archive(build, FACTS)
    assert noted(build, FACTS) is not None
    assert release_archive(build, FACTS) == 0
    assert file.read_bytes() == CONTENT
    assert noted(build, FACTS) is not None
