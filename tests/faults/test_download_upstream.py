"""Archives that no digest proves: a rerun asks upstream whether it still has them."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.downloads import CONTENT, CUT, FACTS, OTHER, SHA256, Run, quick, ranges
from tests.support.fault_server import LOGIN_PAGE, Answer, FaultServer

from imagenet_etl.download.archive import noted, upstream_changed, verified_archive
from imagenet_etl.download.login import Login
from imagenet_etl.download.notes import read_note, write_note
from imagenet_etl.errors import SourceNotFound, SourceUnavailable
from imagenet_etl.files import digest_of

SAME = {"ETag": '"same"'}


@pytest.fixture
def run(run: Run, server: FaultServer) -> Run:
    """A run that has the archive of which nobody knows a digest."""
    run.place = digest_of(server.url)[:12]
    verified_archive(run.build(server.url), FACTS, quick())
    return run


def note_key(run: Run) -> str:
    return f"archives/tiny_imagenet/{run.place}/{FACTS.name}.receipt.json"


def changed(run: Run, server: FaultServer) -> bool:
    return upstream_changed(run.build(server.url), FACTS)


def again(run: Run, server: FaultServer) -> int:
    return verified_archive(run.build(server.url), FACTS, quick())[1]


def test_unchanged_archive_costs_one_head(run: Run, server: FaultServer) -> None:
    assert not changed(run, server)
    assert again(run, server) == 0
    assert (len(server.heads), len(server.requests)) == (2, 1)


def test_changed_archive_takes_the_old_ones_place(run: Run, server: FaultServer) -> None:
    server.content = OTHER
    assert changed(run, server)
    assert run.final.read_bytes() == CONTENT
    assert again(run, server) == len(OTHER)
    run.assert_complete(OTHER)
    assert not changed(run, server)


def test_other_length_alone_is_a_change(run: Run, server: FaultServer) -> None:
    note = read_note(run.build(server.url).storage, note_key(run))
    assert note is not None
    etag = note.validator
    server.head = Answer(body=OTHER[:-1], headers={"ETag": etag})
    assert changed(run, server)


def test_new_etag_for_the_same_bytes_leaves_the_archive_as_it_was(
    run: Run, server: FaultServer
) -> None:
    before = run.final.stat()
    server.always = server.head = Answer(headers=SAME)
    assert again(run, server) == len(CONTENT)
    after = run.final.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    run.assert_complete()
    assert not changed(run, server)


def test_date_serves_where_there_is_no_strong_etag(server: FaultServer, tmp_path: Path) -> None:
    run = Run(tmp_path / "other", digest_of(server.url)[:12])
    weak = {"ETag": 'W/"weak"'}
    server.always = server.head = Answer(headers=weak)
    again(run, server)
    assert not changed(run, server)
    later = {"Last-Modified": "Wed, 11 Feb 2015 08:00:00 GMT"}
    server.head = Answer(headers=weak | later)
    assert changed(run, server)


TELLS_NOTHING = {
    "busy": Answer(status=503),
    "gone": Answer(status=404),
    "refuses HEAD": Answer(status=405),
    "wants a login": Answer(status=403),
    "login page": Answer(body=LOGIN_PAGE, headers={"Content-Type": "text/html"}),
    "no validator": Answer(headers={"ETag": None, "Last-Modified": None}),
    "no length": Answer(body=OTHER, chunked=True),
    "length 0": Answer(headers={"ETag": '"new"', "Content-Length": "0"}),
    "only a date": Answer(headers={"ETag": None}),
    "redirect astray": Answer(redirect="ftp://host/a"),
}


@pytest.mark.parametrize("answer", TELLS_NOTHING.values(), ids=TELLS_NOTHING)
def test_archive_stays_with_a_warning_where_upstream_does_not_tell(
    run: Run, server: FaultServer, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    server.head = answer
    assert not changed(run, server)
    assert again(run, server) == 0
    assert len(server.heads) == 2
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len([text for text in warnings if "what was verified stays" in text]) == 2


def test_archive_stays_where_the_server_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultServer(CONTENT) as server:
        run = Run(tmp_path / "other", digest_of(server.url)[:12])
        again(run, server)
    assert not changed(run, server)
    assert again(run, server) == 0
    assert "what was verified stays" in caplog.text


def test_note_of_an_older_version_stays_valid(
    run: Run, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    storage = run.build(server.url).storage
    note = read_note(storage, note_key(run))
    assert note is not None
    write_note(storage, note_key(run), replace(note, validator=""))
    assert again(run, server) == 0
    assert "what was verified stays" in caplog.text


def test_head_carries_the_login(run: Run, server: FaultServer) -> None:
    host = f"127.0.0.1:{server.port}"
    login = Login(host, cookie="s=1", query={"key": "k"}, insecure=True)
    upstream_changed(run.build(server.url, login=lambda: login), FACTS)
    assert server.heads[0].headers["Cookie"] == "s=1"
    assert server.heads[0].path.endswith("?key=k")


def test_proven_archive_needs_no_question(server: FaultServer, tmp_path: Path) -> None:
    run = Run(tmp_path / "other")
    run(server.url)
    server.content = OTHER
    assert not upstream_changed(run.build(f"{server.url}#sha256={SHA256}"), FACTS)
    assert run(server.url)[1] == 0
    assert server.heads == []


def test_nothing_verified_has_not_changed(server: FaultServer, tmp_path: Path) -> None:
    assert not changed(Run(tmp_path / "other"), server)
    assert server.heads == []


# What goes wrong while the changed archive is fetched.


def test_old_archive_stays_until_the_new_one_is_complete(run: Run, server: FaultServer) -> None:
    server.content = OTHER
    server.script = [Answer(cut_at=CUT), Answer(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(SourceUnavailable):
        again(run, server)
    assert run.final.read_bytes() == CONTENT
    assert noted(run.build(server.url), FACTS) is not None
    again(run, server)
    run.assert_complete(OTHER)
    assert ranges(server)[-1] == f"bytes={1 << 20}-"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("killed_at", ["delete", "publish"])
def test_crash_while_the_archive_is_replaced_is_finished_without_the_network(
    run: Run, server: FaultServer, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = OTHER
    build = run.build(server.url)

    real = getattr(build.storage, killed_at)

    def killed(key: str, *path: Path) -> None:
        if key.startswith("archives/"):
            raise Killed
        real(key, *path)

    monkeypatch.setattr(build.storage, killed_at, killed)
    with pytest.raises(Killed):
        verified_archive(build, FACTS, quick())
    assert run.final.exists() == (killed_at == "delete")
    requests = len(server.requests)
    assert again(run, server) == 0
    assert len(server.requests) == requests
    run.assert_complete(OTHER)


def test_part_that_is_the_published_archive_is_not_written_to(
    run: Run, server: FaultServer
) -> None:
    """A crash in publishing may leave both names; the journal says that the part is complete."""
    run.part.hardlink_to(run.final)
    server.content = OTHER
    server.script = [Answer(status=404)]
    with pytest.raises(SourceNotFound):
        again(run, server)
    assert run.final.read_bytes() == CONTENT
