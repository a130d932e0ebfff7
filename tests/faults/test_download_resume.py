"""FAULTS 1 to 4 and 6: what breaks off, changes midway or has to wait, and goes on.

Each test runs the real stage against a real server that misbehaves, and ends in one of two states:
the archive with its receipt, or nothing under the final name.
"""

import email.utils
import hashlib
import time
from pathlib import Path

import pytest
from tests.support.downloads import CONTENT, CUT, MIB, OTHER, SHA256, Run, archive_bytes, ranges
from tests.support.fault_server import LAST_MODIFIED, Answer, FaultServer

from imagenet_etl.download.http import Wanted, fetch
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.retry import Patience
from imagenet_etl.download.transfer import Job
from imagenet_etl.errors import SourceChanged, SourceUnavailable, TerminalError, TransientError
from imagenet_etl.progress import Meter

# 1. The connection drops.


@pytest.mark.parametrize("k", [70_000, MIB, MIB + 1, len(CONTENT) - 1])
def test_1_dropped_connection_resumes_with_range_and_if_range(
    server: FaultServer, run: Run, k: int
) -> None:
    server.script = [Answer(drop_at=k)]
    _, fetched = run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={k}-"]
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert server.requests[1].headers["If-Range"] == etag
    assert fetched == server.sent == len(CONTENT)


def test_1_connection_that_drops_again_and_again_still_gets_there(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(cut_at=150_000)] * 12
    run(server.url)
    run.assert_complete()
    assert server.sent == len(CONTENT)


def test_1_resumes_by_last_modified_when_there_is_no_etag(server: FaultServer, run: Run) -> None:
    server.always = Answer(headers={"ETag": None})
    server.script = [Answer(headers={"ETag": None}, cut_at=CUT)]
    run(server.url)
    run.assert_complete()
    assert server.requests[1].headers["If-Range"] == LAST_MODIFIED


def test_1_next_run_resumes_at_the_last_journalled_piece(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=CUT)]
    server.always = Answer(status=503)
    with pytest.raises(SourceUnavailable):
        run(server.url, budget_s=0.05)
    run.assert_nothing()
    server.always = Answer()
    _, fetched = run(server.url)
    run.assert_complete()
    assert ranges(server)[-1] == f"bytes={MIB}-"
    assert server.requests[-1].sent == len(CONTENT) - MIB
    assert fetched == len(CONTENT)


# 2. The server ignores Range.


def test_2_ignored_range_starts_over_and_never_appends(server: FaultServer, run: Run) -> None:
    server.script = [Answer(cut_at=CUT)]
    server.always = Answer(ignore_range=True)
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None] + [f"bytes={CUT}-"] * 4
    assert server.requests[-1].sent == len(CONTENT)


def test_2_server_that_ignores_range_and_always_drops_is_given_up(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(ignore_range=True, cut_at=300_000)
    with pytest.raises(SourceUnavailable, match="peer closed"):
        run(server.url, budget_s=0.3)
    run.assert_nothing()


# 3. Wrong Content-Range.

WRONG_RANGES = {
    "another start": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
    "another total": f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT) + 1}",
    "no total": f"bytes {CUT}-{len(CONTENT) - 1}/*",
    "garbage": "pages 3",
    "missing": None,
}


@pytest.mark.parametrize("wrong", WRONG_RANGES.values(), ids=WRONG_RANGES)
def test_3_wrong_content_range_is_discarded_and_started_over(
    server: FaultServer, run: Run, wrong: str | None
) -> None:
    server.script = [Answer(cut_at=CUT), Answer(headers={"Content-Range": wrong})]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_3_wrong_content_range_twice_is_an_error(server: FaultServer, run: Run) -> None:
    wrong = Answer(headers={"Content-Range": "bytes 7-9/10"})
    server.script = [Answer(cut_at=CUT), wrong, Answer(cut_at=CUT), wrong]
    with pytest.raises(SourceChanged, match="bytes 7-9/10"):
        run(server.url)
    run.assert_nothing()
    assert len(server.requests) == 4


def test_3_range_that_was_not_asked_for_is_refused(server: FaultServer, run: Run) -> None:
    server.always = Answer(status=206, body=CONTENT)
    with pytest.raises(SourceChanged):
        run(server.url)
    run.assert_nothing()


def test_3_more_bytes_than_announced_are_not_written(server: FaultServer, run: Run) -> None:
    longer = Answer(body=CONTENT + OTHER, chunked=True)
    span = f"bytes {CUT}-{len(CONTENT) - 1}/{len(CONTENT)}"
    too_much = Answer(status=206, body=OTHER, chunked=True, headers={"Content-Range": span})
    server.script = [Answer(cut_at=CUT), too_much, Answer()]
    run(server.url)
    run.assert_complete()
    # The published size limits what has no announced length.
    server.script = [longer, longer]
    wanted = Wanted("a", server.url, "zip", size=len(CONTENT))
    with PartFile(run.data / "a.part") as part, pytest.raises(SourceChanged, match="more than"):
        fetch(Job(wanted, part, Patience(budget_s=5.0, base_s=0.001)), Meter("a", 0, "B"))


# 4. The file changes midway.


def test_4_changed_etag_discards_what_was_there(server: FaultServer, run: Run) -> None:
    server.script = [Answer(body=OTHER, cut_at=CUT)]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_4_changed_etag_is_noticed_when_the_server_ignores_if_range(
    server: FaultServer, run: Run
) -> None:
    server.script = [Answer(body=OTHER, cut_at=CUT), Answer(ignore_if_range=True)]
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 3
    assert not run.aside.exists()  # noticed by its headers, not by its digest


def test_4_changed_last_modified_is_noticed_when_the_server_ignores_if_range(
    server: FaultServer, run: Run
) -> None:
    older = {"ETag": None, "Last-Modified": "Mon, 09 Feb 2015 08:00:00 GMT"}
    newer = Answer(headers={"ETag": None}, ignore_if_range=True)
    server.script = [Answer(body=OTHER, headers=older, cut_at=CUT), newer]
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 3
    assert not run.aside.exists()  # noticed by its headers, not by its digest


@pytest.mark.parametrize("second", [Answer(), Answer(ignore_range=True)], ids=["206", "200"])
def test_4_changed_size_under_the_same_etag_discards_what_was_there(
    server: FaultServer, run: Run, second: Answer
) -> None:
    same = {"ETag": '"same"'}
    old = Answer(body=OTHER + b"longer", headers=same, cut_at=CUT)
    server.script = [old, Answer(headers=same, ignore_range=second.ignore_range)]
    run(server.url)
    run.assert_complete()
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_4_file_that_changes_twice_is_an_error(server: FaultServer, run: Run) -> None:
    third = archive_bytes(3)
    server.script = [Answer(body=OTHER, cut_at=CUT), Answer(), Answer(body=third, cut_at=CUT)]
    with pytest.raises(SourceChanged) as caught:
        run(server.url)
    assert isinstance(caught.value, TerminalError)
    run.assert_nothing()
    assert run.part.stat().st_size == 0


# 6. Stall, 429 and 503.


def test_6_stalled_connection_times_out_and_resumes(server: FaultServer, tmp_path: Path) -> None:
    server.script = [Answer(stall_at=CUT)]
    wanted = Wanted("a.zip", server.url, "zip")
    with PartFile(tmp_path / "a.part") as part:
        patience = Patience(budget_s=20.0, base_s=0.001)
        fetch(Job(wanted, part, patience), Meter("a", 0, "B"), timeout_s=0.5)
        assert part.digests()["sha256"] == SHA256
    assert ranges(server) == [None, f"bytes={CUT}-"]


@pytest.mark.parametrize("status", [429, 503])
def test_6_busy_server_is_asked_again_within_the_budget(
    server: FaultServer, run: Run, status: int
) -> None:
    server.script = [Answer(status=status)] * 3
    run(server.url)
    run.assert_complete()
    assert len(server.requests) == 4


def test_6_retry_after_in_seconds_is_honoured(server: FaultServer, run: Run) -> None:
    server.script = [Answer(status=429, headers={"Retry-After": "1"})]
    run(server.url)
    first, second = server.requests
    assert second.at - first.at >= 1.0


def test_6_retry_after_as_a_date_is_honoured(server: FaultServer, run: Run) -> None:
    when = int(time.time()) + 2
    date = email.utils.formatdate(when, usegmt=True)
    server.script = [Answer(status=503, headers={"Retry-After": date})]
    run(server.url)
    assert server.requests[1].at >= when - 0.01


def test_6_retry_after_beyond_the_budget_gives_up_at_once(server: FaultServer, run: Run) -> None:
    server.always = Answer(status=503, headers={"Retry-After": "3600"})
    with pytest.raises(SourceUnavailable, match=r"503.*3600 s"):
        run(server.url, budget_s=5.0)
    assert len(server.requests) == 1
    run.assert_nothing()


def test_6_server_that_stays_busy_is_given_up_when_the_budget_is_spent(
    server: FaultServer, run: Run
) -> None:
    server.always = Answer(status=503)
    with pytest.raises(SourceUnavailable) as caught:
        run(server.url, budget_s=0.5)
    assert isinstance(caught.value, TransientError)
    assert len(server.requests) > 2
    run.assert_nothing()
