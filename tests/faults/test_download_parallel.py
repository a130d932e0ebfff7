"""Several ranges at once, and servers that do not care for them.

Each test runs the real stage against a real server that misbehaves, and ends in one of two states:
the archive with its receipt, or nothing under the final name.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.downloads import FACTS, MIB, Run, archive_bytes, quick, ranges
from tests.support.fault_server import LOGIN_PAGE, Answer, FaultServer, Request

from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.journal import read_journal
from imagenet_etl.errors import (
    AuthenticationRequired,
    LeaseLost,
    NotEnoughSpace,
    SourceChanged,
    SourceUnavailable,
)

SIZE = 8 * MIB + 777
BIG, NEWER = archive_bytes(11, SIZE), archive_bytes(12, SIZE)
SLOW, SLOWER = Answer(pause_s=0.001), Answer(pause_s=0.01)


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """A server of a file of 9 pieces, slow enough for several streams to be at work."""
    server.content = BIG
    server.always = SLOW
    return server


@pytest.fixture
def run(run: Run) -> Run:
    return replace(run, place=hashlib.sha256(BIG).hexdigest()[:12])


def fetch(run: Run, server: FaultServer, budget_s: float = 5.0) -> int:
    return run(server.url, budget_s, hashlib.sha256(BIG).hexdigest())[1]


def for_ranges(answer: Answer) -> Callable[[Request], Answer]:
    """Answer like this whoever asks for a range."""
    return lambda request: answer if request.headers["Range"] else SLOW


def test_four_ranges_are_fetched_at_once(server: FaultServer, run: Run) -> None:
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)
    assert server.most_at_once == 4
    assert ranges(server)[0] is None
    etag = f'"{hashlib.md5(BIG).hexdigest()}"'
    assert {r.headers["If-Range"] for r in server.requests[1:]} == {etag}


def test_each_byte_is_asked_for_once(server: FaultServer, run: Run) -> None:
    fetch(run, server)
    asked = [asked for asked in ranges(server) if asked]
    assert len(asked) == len(set(asked))


def test_one_connection_means_one_request(server: FaultServer, run: Run) -> None:
    build = run.build(f"{server.url}#sha256={hashlib.sha256(BIG).hexdigest()}")
    build = replace(build, settings=replace(build.settings, connections=1))
    verified_archive(build, FACTS, quick())
    run.assert_complete(BIG)
    assert ranges(server) == [None]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pause_s=0.001, chunked=True),
        Answer(pause_s=0.001, headers={"ETag": None, "Last-Modified": None}),
        Answer(pause_s=0.001, headers={"ETag": 'W/"1"', "Last-Modified": None}),
    ],
    ids=["unknown length", "no validator", "weak validator"],
)
def test_file_that_cannot_be_pinned_is_one_stream(
    server: FaultServer, run: Run, answer: Answer
) -> None:
    server.always = answer
    fetch(run, server)
    run.assert_complete(BIG)
    assert ranges(server) == [None]


def test_dropped_connections_go_on_within_their_piece(server: FaultServer, run: Run) -> None:
    drops = iter(range(6))
    server.answers = lambda _: SLOW if next(drops, None) is None else Answer(cut_at=300_000)
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)


def test_server_that_ignores_ranges_is_read_in_one_stream(server: FaultServer, run: Run) -> None:
    server.script = [SLOWER]
    server.answers = for_ranges(Answer(ignore_range=True))
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)
    assert server.requests[0].sent == SIZE


@pytest.mark.parametrize("bears", [1, 2, 3])
@pytest.mark.parametrize("status", [429, 503])
def test_server_that_bears_few_connections_gets_few(
    server: FaultServer, run: Run, bears: int, status: int
) -> None:
    server.bears = bears
    server.refusal = Answer(status=status, headers={"Retry-After": "3600"})
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)
    assert server.most_at_once <= bears


def test_server_that_resets_further_connections_gets_one(server: FaultServer, run: Run) -> None:
    server.script = [SLOWER]
    server.answers = for_ranges(Answer(drop_at=0))
    assert fetch(run, server) == SIZE
    assert ranges(server).count(None) == 1


def test_connections_that_were_refused_are_tried_again_later(server: FaultServer, run: Run) -> None:
    server.content = archive_bytes(13, 24 * MIB)
    refusals = iter(range(3))
    server.answers = lambda request: (
        Answer(status=503)
        if request.headers["Range"] and next(refusals, None) is not None
        else SLOW
    )
    run(server.url, sha256=hashlib.sha256(server.content).hexdigest())
    assert len([asked for asked in ranges(server) if asked]) > 3


def test_outage_of_all_connections_is_waited_for(server: FaultServer, run: Run) -> None:
    count = iter(range(20))
    server.answers = lambda _: (
        SLOW if (turn := next(count, 99)) < 3 or turn > 15 else Answer(status=503)
    )
    fetch(run, server)
    run.assert_complete(BIG)


def test_outage_that_lasts_is_given_up(server: FaultServer, run: Run) -> None:
    server.answers = for_ranges(Answer(status=503))
    server.script = [Answer(cut_at=2 * MIB)]
    with pytest.raises(SourceUnavailable, match="503"):
        fetch(run, server, budget_s=0.3)
    run.assert_nothing()


def test_retry_after_beyond_the_budget_ends_all_streams(server: FaultServer, run: Run) -> None:
    server.answers = for_ranges(Answer(status=503, headers={"Retry-After": "3600"}))
    server.script = [Answer(cut_at=2 * MIB)]
    with pytest.raises(SourceUnavailable, match=r"503.*3600 s"):
        fetch(run, server)


def changing(server: FaultServer, after: int, *, ignore_if_range: bool = False) -> None:
    """Let another file take the place of the first after so many requests."""
    count = iter(range(1000))

    def answer(_: Request) -> Answer:
        if next(count) == after:
            server.content = BIG
        return Answer(pause_s=0.001, ignore_if_range=ignore_if_range)

    server.content = NEWER
    server.answers = answer


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_file_that_changes_midway_is_begun_anew(
    server: FaultServer, run: Run, ignore_if_range: bool
) -> None:
    changing(server, after=5, ignore_if_range=ignore_if_range)
    fetch(run, server)
    run.assert_complete(BIG)
    assert not run.aside.exists()  # noticed by its headers, not by its digest
    assert ranges(server).count(None) == 2


def test_file_that_changes_again_is_an_error(server: FaultServer, run: Run) -> None:
    seeds = iter(range(1000))

    def another(_: Request) -> Answer:
        seed = next(seeds)
        if seed % 4 == 3:
            server.content = archive_bytes(seed, SIZE)
        return SLOW

    server.answers = another
    with pytest.raises(SourceChanged):
        fetch(run, server)
    run.assert_nothing()


@pytest.mark.parametrize(
    "wrong", ["bytes 0-9/10", f"bytes 7-8/{SIZE}", "pages 3", f"bytes 3-2/{SIZE}", None]
)
def test_wrong_content_range_is_never_written(
    server: FaultServer, run: Run, wrong: str | None
) -> None:
    server.answers = for_ranges(Answer(headers={"Content-Range": wrong}))
    with pytest.raises(SourceChanged):
        fetch(run, server)
    run.assert_nothing()


def test_more_bytes_than_the_range_are_not_written(server: FaultServer, run: Run) -> None:
    count = iter(range(100))

    def longer(request: Request) -> Answer:
        asked = request.headers["Range"]
        if asked is None or next(count) != 3:
            return SLOW
        start, end = map(int, asked.removeprefix("bytes=").split("-"))
        span = {"Content-Range": f"bytes {start}-{end}/{SIZE}"}
        return Answer(status=206, ignore_range=True, body=BIG[start:], headers=span | same)

    same = {"ETag": f'"{hashlib.md5(BIG).hexdigest()}"'}
    server.answers = longer
    fetch(run, server)
    run.assert_complete(BIG)
    assert ranges(server).count(None) == 2


def test_login_that_expires_midway_keeps_the_finished_pieces(server: FaultServer, run: Run) -> None:
    count = iter(range(1000))
    page = Answer(status=200, body=LOGIN_PAGE, headers={"Content-Type": "text/html"})
    server.answers = lambda _: SLOW if next(count) < 6 else page
    with pytest.raises(AuthenticationRequired):
        fetch(run, server)
    run.assert_nothing()
    proven = read_journal(run.journal).proven  # type: ignore[union-attr]
    assert len(proven) >= 2
    server.answers = lambda _: SLOW
    before = server.sent
    assert fetch(run, server) == SIZE
    assert server.sent - before <= SIZE - len(proven) * MIB + MIB
    run.assert_complete(BIG)


def test_resume_asks_for_what_is_missing_only(server: FaultServer, run: Run) -> None:
    test_login_that_expires_midway_keeps_the_finished_pieces(server, run)
    assert ranges(server).count(None) == 1


def test_lost_lease_ends_all_streams(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = iter(range(10_000))

    def check(_: object) -> None:
        if next(checks) > 100:
            raise LeaseLost("taken over")

    monkeypatch.setattr("imagenet_etl.heartbeats.Heartbeat.check", check)
    with pytest.raises(LeaseLost):
        fetch(run, server)
    before = run.part.read_bytes()
    run.assert_nothing()
    assert run.part.read_bytes() == before


def test_full_disk_ends_all_streams_and_keeps_the_finished_pieces(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(10_000))

    def check_space(*_: object) -> None:
        if next(count) == 6:
            raise NotEnoughSpace("full")

    monkeypatch.setattr("imagenet_etl.download.crew.check_space", check_space)
    with pytest.raises(NotEnoughSpace):
        fetch(run, server)
    fetch(run, server)
    run.assert_complete(BIG)


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_faults_gives_the_same_archive(
    server: FaultServer, run: Run, seed: int
) -> None:
    dice = random.Random(seed)
    faults = [
        Answer(status=503),
        Answer(cut_at=200_000),
        Answer(drop_at=0),
        Answer(cut_at=MIB),
        Answer(status=429),
    ]
    server.answers = lambda _: dice.choice(faults) if dice.random() < 0.3 else SLOW
    fetch(run, server)
    run.assert_complete(BIG)
