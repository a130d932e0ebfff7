"""Downloads that make way after a slice of time and go on in the next one."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.downloads import (
    FACTS,
    MIB,
    Run,
    archive_bytes,
    is_too_short,
    makes_way,
    quick,
    ranges,
)
from tests.support.fault_server import Answer, FaultServer, Request

from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.journal import read_journal
from imagenet_etl.errors import ChecksumMismatch, SourceUnavailable, StillPending
from imagenet_etl.pipeline import run_stage

SIZE = 6 * MIB + 777
BIG = archive_bytes(41, SIZE)
SHA256 = hashlib.sha256(BIG).hexdigest()
SLOW = Answer(pause_s=0.02)  # about three pieces a second and stream
SLICE_S = 0.7
SLICE_TO_ASK_IN_S = 1.5


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    server.content = BIG
    server.always = SLOW
    return server


@pytest.fixture
def run(run: Run) -> Run:
    return replace(run, place=SHA256[:12])


def one_slice(run: Run, server: FaultServer, slice_s: float = SLICE_S, connections: int = 1) -> int:
    build = run.build(f"{server.url}#sha256={SHA256}", slice_s=slice_s)
    build = replace(build, settings=replace(build.settings, connections=connections))
    return verified_archive(build, FACTS, quick())[1]


def slices(
    run: Run,
    server: FaultServer,
    connections: int,
    slice_s: float = SLICE_S,
    begins: Callable[[], None] = lambda: None,
) -> int:
    """Return after how many slices the archive is there; tell of each that begins."""
    for count in range(1, 30):
        begins()
        try:
            one_slice(run, server, slice_s, connections)
        except StillPending:
            run.assert_nothing()
        except SourceUnavailable as error:
            if not is_too_short(error):
                raise
        else:
            return count
    raise AssertionError("no end")


def proven(run: Run) -> int:
    journal = read_journal(run.journal)
    return len(journal.proven) if journal else 0


@pytest.mark.parametrize("connections", [1, 2])
def test_slices_follow_each_other_until_the_archive_is_there(
    server: FaultServer, run: Run, connections: int
) -> None:
    asked = set()  # before anything was proven; a busy machine may need several slices for that

    def begins() -> None:
        if not proven(run):
            asked.add(len(server.requests))

    assert slices(run, server, connections, begins=begins) > 1
    run.assert_complete(BIG)
    assert ranges(server).count(None) == len(asked)


def test_receipt_counts_the_bytes_of_all_slices(server: FaultServer, run: Run) -> None:
    makes_way(lambda: one_slice(run, server))
    outcome = run_stage(run.build(f"{server.url}#sha256={SHA256}"), "download")
    assert outcome.receipt.facts["bytes_fetched"] == SIZE


def test_end_of_a_slice_tells_how_much_is_there_and_how_long_it_takes(
    server: FaultServer, run: Run
) -> None:
    told = r"download tiny-imagenet-200.zip: \d\.\d of 6\.3 MB, \d\.\d MB/s, \d+ s left"
    assert re.search(told, str(makes_way(lambda: one_slice(run, server))))
    assert proven(run) > 0


def test_stream_ends_with_its_piece(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagenet_etl.download.slices._GRACE", 100.0)
    makes_way(lambda: one_slice(run, server))
    assert run.part.stat().st_size == proven(run) * MIB
    assert server.sent - proven(run) * MIB <= MIB // 2


def test_without_a_slice_it_takes_as_long_as_it_takes(server: FaultServer, run: Run) -> None:
    run(server.url, sha256=SHA256)
    run.assert_complete(BIG)


def test_slice_in_which_nothing_arrives_is_a_failure(server: FaultServer, run: Run) -> None:
    server.always = Answer(status=503, headers={"Retry-After": "4"})
    with pytest.raises(SourceUnavailable, match="503"):
        one_slice(run, server, slice_s=3)
    assert len(server.requests) == 1


def test_slice_in_which_no_piece_is_finished_is_a_failure(server: FaultServer, run: Run) -> None:
    server.always = Answer(pause_s=0.2)
    with pytest.raises(SourceUnavailable, match="too little in a slice"):
        one_slice(run, server, slice_s=0.4)
    run.assert_nothing()


def test_stalled_helpers_do_not_hold_a_slice_up(server: FaultServer, run: Run) -> None:
    stalls = iter([Answer(stall_at=0)] * 2)
    server.answers = lambda request: next(stalls, SLOW) if request.headers["Range"] else SLOW
    makes_way(lambda: one_slice(run, server, connections=3))
    server.resumed.set()
    server.answers = lambda _: Answer()
    one_slice(run, server, slice_s=60, connections=3)
    run.assert_complete(BIG)


def test_wait_that_goes_beyond_the_slice_is_left_to_the_next(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=2 * MIB)]
    server.always = Answer(status=503, headers={"Retry-After": "4"})
    with pytest.raises(StillPending) as caught:
        one_slice(run, server, slice_s=3)
    assert len(server.requests) == 2
    assert caught.value.retry_after_s == 4


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pause_s=0.02, headers={"ETag": None, "Last-Modified": None}),
        Answer(pause_s=0.02, ignore_range=True),
    ],
    ids=["no validator", "no ranges"],
)
def test_server_that_cannot_resume_is_read_in_one_go(
    server: FaultServer, run: Run, answer: Answer
) -> None:
    server.always = answer
    assert slices(run, server, connections=1, slice_s=SLICE_TO_ASK_IN_S) <= 2
    run.assert_complete(BIG)


def test_complete_file_is_read_back_in_a_slice_of_its_own(
    server: FaultServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagenet_etl.download.slices._DISK_B_S", 1.0)  # a long pass, then
    server.always = Answer(pause_s=0.03)
    while "the next slice checks them" not in str(
        makes_way(lambda: one_slice(run, server, slice_s=1.0, connections=4))
    ):
        run.assert_nothing()  # a busy machine needs more than one slice for all of it
    run.assert_nothing()
    asked = len(server.requests)
    assert one_slice(run, server, slice_s=60, connections=4) == SIZE
    run.assert_complete(BIG)
    assert len(server.requests) == asked


def test_wrong_content_is_not_fetched_for_ever(server: FaultServer, run: Run) -> None:
    other = archive_bytes(42, SIZE)

    def wrong(_: Request) -> Answer:
        return Answer(body=other, pause_s=0.01)

    server.answers = wrong
    with pytest.raises(ChecksumMismatch):
        slices(run, server, connections=1)
    assert run.aside.exists()
