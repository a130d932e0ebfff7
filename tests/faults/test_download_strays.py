"""Answers that contradict all others, and what must not be given up for them.

Behind one name there may be many servers, of which one ignores ranges or holds another copy.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from tests.support.downloads import FACTS, MIB, Run, archive_bytes, makes_way, quick, ranges
from tests.support.fault_server import Answer, FaultServer, Request

from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.journal import read_journal
from imagenet_etl.errors import ChecksumMismatch, SourceChanged

SIZE = 8 * MIB + 777
BIG, OTHER = archive_bytes(51, SIZE), archive_bytes(52, SIZE)
SHA256 = hashlib.sha256(BIG).hexdigest()
GOOD, SLOW = Answer(pause_s=0.001), Answer(pause_s=0.02)
CUT = 5 * MIB + 99

STRAYS = {
    "200": Answer(ignore_range=True, pause_s=0.02),
    "200 of unknown length": Answer(ignore_range=True, chunked=True, pause_s=0.02),
    "416": Answer(status=416),
}
kinds = pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """A server of a file of 9 pieces, slow enough for several streams to be at work."""
    server.content = BIG
    server.always = GOOD
    return server


@pytest.fixture
def run(run: Run) -> Run:
    return replace(run, place=SHA256[:12])


def fetch(run: Run, server: FaultServer, connections: int = 1, slice_s: float | None = None) -> int:
    build = run.build(f"{server.url}#sha256={SHA256}", slice_s=slice_s)
    build = replace(build, settings=replace(build.settings, connections=connections))
    return verified_archive(build, FACTS, quick())[1]


def nth_range(number: int, stray: Answer) -> Callable[[Request], Answer]:
    """Answer well but for one range."""
    turn = count()
    return lambda request: stray if request.headers["Range"] and next(turn) == number else GOOD


@kinds
def test_one_stray_answer_to_a_resumed_download_costs_nothing(
    server: FaultServer, run: Run, stray: Answer
) -> None:
    server.script = [Answer(cut_at=CUT), stray]
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)
    assert ranges(server) == [None, f"bytes={CUT}-", f"bytes={CUT}-"]
    assert server.requests[2].sent == SIZE - CUT


@kinds
@pytest.mark.parametrize("number", [0, 3])
def test_one_stray_answer_to_one_of_several_streams_costs_nothing(
    server: FaultServer, run: Run, stray: Answer, number: int
) -> None:
    server.answers = nth_range(number, stray)
    assert fetch(run, server, connections=4) == SIZE
    run.assert_complete(BIG)
    assert ranges(server).count(None) == 1


@kinds
def test_two_stray_answers_in_a_row_are_not_believed(
    server: FaultServer, run: Run, stray: Answer
) -> None:
    server.script = [Answer(cut_at=CUT), stray, stray, Answer(cut_at=MIB), stray, stray]
    assert fetch(run, server) == SIZE
    run.assert_complete(BIG)
    assert ranges(server).count(None) == 1


def test_server_that_goes_on_ignoring_ranges_is_believed(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=CUT)]
    server.always = STRAYS["200"]
    fetch(run, server)
    run.assert_complete(BIG)
    assert len(server.requests) == 5


def test_server_that_goes_on_refusing_the_range_is_begun_anew(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(cut_at=CUT)] + [STRAYS["416"]] * 4
    fetch(run, server)
    run.assert_complete(BIG)
    assert ranges(server) == [None] + [f"bytes={CUT}-"] * 4 + [None]


def proven(run: Run) -> int:
    journal = read_journal(run.journal)
    return len(journal.proven) if journal else 0


def test_stray_answer_neither_drops_pieces_nor_lifts_the_slice(
    server: FaultServer, run: Run
) -> None:
    server.always = SLOW
    makes_way(lambda: fetch(run, server, slice_s=0.8))
    before = proven(run)
    assert before > 0
    server.script = [STRAYS["200"]]
    makes_way(lambda: fetch(run, server, slice_s=0.8))
    assert proven(run) > before
    server.always = GOOD
    assert fetch(run, server, slice_s=60) >= SIZE
    run.assert_complete(BIG)


def with_tag(number: int) -> Answer:
    return Answer(pause_s=0.02, headers={"ETag": f'"copy {number}"'})


def test_file_that_changes_once_a_slice_is_not_fetched_for_ever(
    server: FaultServer, run: Run
) -> None:
    for number in range(2):
        server.always = with_tag(number)
        makes_way(lambda: fetch(run, server, slice_s=0.8))
        assert proven(run) > 0
    server.always = with_tag(2)
    with pytest.raises(SourceChanged, match="copy"):
        fetch(run, server, slice_s=0.8)
    run.assert_nothing()
    assert not run.journal.exists()


def test_run_after_a_failed_download_may_start_over_again(server: FaultServer, run: Run) -> None:
    test_file_that_changes_once_a_slice_is_not_fetched_for_ever(server, run)
    server.script = [replace(with_tag(3), cut_at=CUT)]
    server.always = GOOD
    fetch(run, server)
    run.assert_complete(BIG)


def test_start_over_counts_even_if_the_slice_ends_before_the_file_is_begun_anew(
    server: FaultServer, run: Run
) -> None:
    busy = Answer(status=503, headers={"Retry-After": "4"})
    server.script = [replace(with_tag(0), pause_s=0.0, cut_at=CUT), with_tag(1), busy]
    makes_way(lambda: fetch(run, server, slice_s=3))
    journal = read_journal(run.journal)
    assert journal is not None
    assert (journal.past.restarts, journal.proven) == (1, {})
    server.script = [Answer(cut_at=CUT), with_tag(2)]
    with pytest.raises(SourceChanged):
        fetch(run, server)


def test_wrong_content_left_by_another_source_takes_no_retry_away(
    server: FaultServer, run: Run
) -> None:
    run.aside.parent.mkdir(parents=True)
    run.aside.write_bytes(b"of old")
    server.script = [Answer(body=OTHER)]
    assert fetch(run, server, slice_s=60) == 2 * SIZE
    run.assert_complete(BIG)
    assert not run.aside.exists()


def test_wrong_content_of_an_earlier_slice_takes_the_retry_away(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(body=OTHER), Answer(body=OTHER, pause_s=0.03)]
    makes_way(lambda: fetch(run, server, slice_s=2))
    server.always = Answer(body=OTHER)
    with pytest.raises(ChecksumMismatch):
        fetch(run, server, slice_s=60)
    assert ranges(server).count(None) == 2
    assert run.aside.read_bytes() == OTHER
