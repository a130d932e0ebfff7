import hashlib
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.downloads import append

from imagenet_etl.download.journal import Past, RemoteFile
from imagenet_etl.download.part import PartFile, remove_leftovers
from imagenet_etl.errors import BadArchive, LeaseLost

PIECE = 1 << 20
CONTENT = random.Random(5).randbytes(3 * PIECE + 4567)
REMOTE = RemoteFile("http://host/a", '"tag"', len(CONTENT))
DIGESTS = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha256")}


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def begin(path: Path, count: int) -> None:
    """Leave a partial file as a process does that dies after ``count`` bytes."""
    with PartFile(path) as part:
        part.start(REMOTE)
        append(part, CONTENT[:count])


def finish(path: Path) -> dict[str, str]:
    with PartFile(path) as part:
        if part.remote is None:
            part.start(REMOTE)
        while piece := part.take():
            part.write(piece, memoryview(CONTENT)[piece.at : piece.end])
        return part.digests()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.part"


def test_digests_of_one_go_are_those_of_the_content(path: Path) -> None:
    assert finish(path) == DIGESTS
    assert path.read_bytes() == CONTENT


def test_journal_holds_the_digest_of_each_finished_piece(path: Path) -> None:
    begin(path, 2 * PIECE + 1)
    head, *pieces = journal_of(path).read_text().splitlines()
    assert json.loads(head)["url"] == REMOTE.url
    assert pieces == [
        f"{n} {hashlib.sha256(CONTENT[n * PIECE : (n + 1) * PIECE]).hexdigest()}" for n in (0, 1)
    ]


def test_resumes_at_the_last_finished_piece(path: Path) -> None:
    begin(path, 2 * PIECE + 1)
    with PartFile(path) as part:
        assert part.size == path.stat().st_size == 2 * PIECE
        assert part.remote == REMOTE
    assert finish(path) == DIGESTS


@pytest.mark.parametrize(
    ("tail", "pieces"),
    [
        ("", 2),
        ("2", 2),
        ("2 0123456789abcdef", 2),
        ("\0" * 64 + "\n", 2),
        ("0" * 64 + "\n", 2),
        ("2 " + "z" * 64 + "\n3 " + "0" * 64 + "\n", 2),
        ("02 " + "0" * 64 + "\n", 2),
    ],
)
def test_torn_last_line_is_cut_off_before_the_journal_goes_on(
    path: Path, tail: str, pieces: int
) -> None:
    begin(path, 2 * PIECE + 1)
    whole = journal_of(path).read_text()
    journal_of(path).write_text(whole + tail)
    with PartFile(path) as part:
        assert part.size == pieces * PIECE
    assert journal_of(path).read_text() == whole
    assert finish(path) == DIGESTS


def test_damaged_line_in_the_middle_voids_what_follows(path: Path) -> None:
    begin(path, 3 * PIECE)
    head, first, second, third = journal_of(path).read_text().splitlines()
    journal_of(path).write_text("\n".join((head, first, second[:-1], third, "")))
    with PartFile(path) as part:
        assert part.size == PIECE
    assert finish(path) == DIGESTS


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 99},
        {"piece_bytes": 0},
        {"piece_bytes": "x"},
        {"surprise": 1},
        {"restarts": -1},
        {"mismatches": "x"},
        {"dropped_bytes": 1.5},
    ],
    ids=str,
)
def test_journal_that_cannot_be_used_starts_over(path: Path, change: dict[str, object]) -> None:
    begin(path, 2 * PIECE)
    head, *pieces = journal_of(path).read_text().splitlines()
    changed = json.dumps(json.loads(head) | change)
    journal_of(path).write_text("\n".join((changed, *pieces, "")))
    with PartFile(path) as part:
        assert (part.size, part.remote) == (0, None)
    assert finish(path) == DIGESTS


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "7\n", "{}\n", '{"schema_version": 1}\n', "{"])
def test_journal_of_another_shape_starts_over(path: Path, text: str) -> None:
    begin(path, PIECE)
    journal_of(path).write_text(text)
    with PartFile(path) as part:
        assert (part.size, part.remote) == (0, None)


def test_part_without_a_journal_starts_over(path: Path) -> None:
    begin(path, PIECE)
    journal_of(path).unlink()
    with PartFile(path) as part:
        assert (part.size, path.stat().st_size) == (0, 0)


def test_file_that_lost_bytes_resumes_at_what_is_left(path: Path) -> None:
    begin(path, 3 * PIECE)
    os.truncate(path, 2 * PIECE - 1)
    with PartFile(path) as part:
        assert part.size == PIECE
    assert finish(path) == DIGESTS


@pytest.mark.parametrize("at", [0, PIECE, 2 * PIECE - 1])
def test_corruption_of_a_journalled_piece_is_found(path: Path, at: int) -> None:
    begin(path, 2 * PIECE)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([CONTENT[at] ^ 1]))
    with pytest.raises(BadArchive, match=f"piece {at // PIECE} changed on disk"):
        finish(path)
    assert finish(path) == DIGESTS


def test_file_that_shrinks_before_its_digest_is_taken_is_found(path: Path) -> None:
    begin(path, PIECE)
    with PartFile(path) as part:
        append(part, CONTENT[part.size :])
        os.truncate(path, len(CONTENT) - 1)
        with pytest.raises(BadArchive):
            part.digests()


def test_write_without_ownership_is_refused(path: Path) -> None:
    def lost() -> None:
        raise LeaseLost("taken over")

    begin(path, PIECE)
    before = path.read_bytes()
    with PartFile(path, lost) as part, pytest.raises(LeaseLost):
        append(part, b"late")
    assert path.read_bytes() == before


@contextmanager
def no_room_after(limit: int) -> Iterator[pytest.MonkeyPatch]:
    """Let the disk take no byte beyond ``limit``, with a short write at the border."""
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        if at >= limit:
            raise OSError(28, "No space left on device")
        return real(fd, data[: limit - at], at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        yield patch


def test_full_disk_frees_the_unfinished_piece_and_keeps_the_finished(path: Path) -> None:
    with no_room_after(2 * PIECE + 99), pytest.raises(OSError, match="No space"):
        begin(path, len(CONTENT))
    assert path.stat().st_size == 2 * PIECE
    with PartFile(path) as part:
        assert part.size == 2 * PIECE
    assert finish(path) == DIGESTS


def test_crash_while_the_journal_is_rewritten_keeps_the_old_one(path: Path) -> None:
    begin(path, 2 * PIECE)

    def crash(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", crash)
        PartFile(path)
    with PartFile(path) as part:
        assert part.size == 2 * PIECE


def test_set_aside_keeps_the_bytes_and_begins_with_nothing(path: Path) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        append(part, b"wrong")
        aside = part.set_aside()
        assert aside.read_bytes() == b"wrong"
        assert (part.size, part.remote) == (0, None)
        part.start(REMOTE)
        append(part, CONTENT)
        assert part.digests() == DIGESTS
    assert aside.read_bytes() == b"wrong"
    assert path.read_bytes() == CONTENT


def test_what_a_download_has_been_through_outlives_its_process(path: Path) -> None:
    begin(path, 2 * PIECE + 1)
    with PartFile(path) as part:
        part.start_over()
    with PartFile(path) as part:
        assert part.past == Past(restarts=1, dropped_bytes=2 * PIECE)
        part.meant_for(REMOTE.url)
        part.empty()
        part.start(REMOTE)
        append(part, CONTENT)
        part.set_aside()
    with PartFile(path) as part:
        assert part.past == Past(mismatches=1, dropped_bytes=2 * PIECE + len(CONTENT))
        assert part.size == 0
        assert part.fetched_of(REMOTE.url) == 2 * PIECE + len(CONTENT)
        assert part.fetched_of("another") == 0


def test_download_from_elsewhere_has_no_past(path: Path) -> None:
    begin(path, PIECE)
    with PartFile(path) as part:
        part.start_over()
        part.meant_for("http://mirror/a")
        assert (part.past, part.size) == (Past(), 0)
        part.start(replace(REMOTE, url="http://mirror/a"))
    with PartFile(path) as part:
        assert part.past == Past()


def test_download_without_trouble_keeps_the_plain_first_line(path: Path) -> None:
    begin(path, PIECE)
    head = json.loads(journal_of(path).read_text().splitlines()[0])
    assert set(head) == {"schema_version", "piece_bytes", "url", "validator", "total"}


def test_finished_download_leaves_nothing_beside_its_archive(path: Path) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        append(part, CONTENT)
        part.set_aside()
        part.start(REMOTE)
        append(part, CONTENT)
        path.rename(path.with_suffix(""))
        part.forget()
    assert list(path.parent.iterdir()) == [path.with_suffix("")]


def test_start_without_ownership_is_refused(path: Path) -> None:
    def lost() -> None:
        raise LeaseLost("taken over")

    begin(path, PIECE)
    with PartFile(path, lost) as part, pytest.raises(LeaseLost):
        part.start(REMOTE)
    assert path.read_bytes() == CONTENT[:PIECE]


def test_pieces_grow_with_the_file_up_to_a_limit(path: Path) -> None:
    sizes = {None: 1, 10: 1, 640 << 20: 10, 2**40: 64}
    for total, mib in sizes.items():
        with PartFile(path) as part:
            part.start(RemoteFile("u", "", total))
        head = json.loads(journal_of(path).read_text())
        assert head["piece_bytes"] == mib << 20


def test_leftovers_are_removed(path: Path) -> None:
    begin(path, PIECE)
    remove_leftovers(path)
    remove_leftovers(path)
    assert list(path.parent.iterdir()) == []


@settings(max_examples=25, deadline=None)
@given(
    kills=st.lists(st.integers(0, len(CONTENT)), max_size=4),
    block=st.sampled_from([1000, 65536, PIECE, len(CONTENT)]),
    lost=st.integers(0, 2000),
    journal_lost=st.integers(0, 100),
)
def test_any_kills_and_resumes_give_the_same_digests(
    kills: list[int], block: int, lost: int, journal_lost: int
) -> None:
    """A kill may also cost bytes at the end of the part and of its journal."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.part"
        for kill in kills:
            with PartFile(path) as part:
                if part.remote is None:
                    part.start(REMOTE)
                while part.size < kill:
                    append(part, CONTENT[part.size : min(part.size + block, kill)])
            os.truncate(path, max(0, path.stat().st_size - lost))
            journal = journal_of(path)
            os.truncate(journal, max(0, journal.stat().st_size - journal_lost))
        assert finish(path) == DIGESTS
        assert path.read_bytes() == CONTENT
