"""Who writes which piece of a download."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagenet_etl.download.descriptor import Fenced
from imagenet_etl.download.journal import RemoteFile, journal_of
from imagenet_etl.download.part import PartFile
from imagenet_etl.download.pieces import Piece, Pieces

PIECE = 1 << 20
CONTENT = random.Random(6).randbytes(5 * PIECE + 321)
REMOTE = RemoteFile("http://host/a", '"tag"', len(CONTENT))


def numbers(pieces: Pieces) -> list[int]:
    found = []
    while piece := pieces.take():
        found.append(piece.number)
    return found


def test_each_missing_piece_is_handed_out_once_in_order() -> None:
    pieces = Pieces(10, 45, {1: "", 3: ""})
    assert numbers(pieces) == [0, 2, 4]


def test_last_piece_is_as_long_as_the_rest() -> None:
    pieces = Pieces(10, 45, dict.fromkeys(range(4), ""))
    piece = pieces.take()
    assert piece is not None
    assert (piece.at, piece.end, piece.room) == (40, 45, 5)
    assert pieces.proven_bytes == 40


def test_proven_last_piece_counts_with_its_own_length() -> None:
    pieces = Pieces(10, 45, {0: "", 4: ""})
    assert (pieces.proven_bytes, pieces.proven_end) == (15, 45)


def test_returned_piece_comes_first_and_goes_on_where_it_was() -> None:
    pieces = Pieces(10, 45, {})
    first = pieces.take()
    assert first is not None
    first.at += 3
    pieces.give_back(first)
    assert pieces.take() is first


def test_stream_runs_on_until_another_has_the_piece_behind() -> None:
    pieces = Pieces(10, 45, {})
    first, second = pieces.take(), pieces.take()
    assert first is not None
    assert second is not None
    assert pieces.take_after(first) is None
    third = pieces.take_after(second)
    assert third is not None
    assert third.number == 2


def test_stream_runs_on_into_a_piece_that_came_back_untouched() -> None:
    pieces = Pieces(10, 45, {})
    first, second = pieces.take(), pieces.take()
    assert first is not None
    assert second is not None
    pieces.give_back(second)
    assert pieces.take_after(first) is second
    second.at += 1
    pieces.give_back(second)
    assert pieces.take_after(first) is None


def test_stream_stops_before_what_is_proven_and_at_the_end() -> None:
    pieces = Pieces(10, 30, {1: ""})
    first, last = pieces.take(), pieces.take()
    assert first is not None
    assert last is not None
    assert pieces.take_after(first) is None
    assert pieces.take_after(last) is None


def test_file_of_unknown_length_has_no_last_piece() -> None:
    pieces = Pieces(10, None, {})
    assert [piece.number for _ in range(3) if (piece := pieces.take())] == [0, 1, 2]
    assert pieces.whole_count == 0


def write(part: PartFile, piece: Piece, end: int) -> None:
    part.write(piece, memoryview(CONTENT)[piece.at : end])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


def test_pieces_finished_in_any_order_are_found_again(path: Path) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        held = [part.take() for _ in range(6)]
        for piece in (held[5], held[2]):
            assert piece is not None
            write(part, piece, piece.end)
        assert part.proven_bytes == part.size == PIECE + 321
    with PartFile(path) as part:
        assert part.size == PIECE + 321
        found = [part.take() for _ in range(5)]
    assert [piece and piece.number for piece in found] == [0, 1, 3, 4, None]


def test_stream_of_a_file_that_was_begun_anew_writes_nothing(path: Path) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        old = part.take()
        assert old is not None
        part.start(REMOTE)
        with pytest.raises(Fenced):
            write(part, old, 10)
        part.give_back(old)
        assert part.size == path.stat().st_size == 0


@pytest.mark.parametrize("how", ["begun anew", "fenced"])
def test_stream_without_a_piece_of_its_own_neither_begins_nor_changes_the_file(
    path: Path, how: str
) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        old = part.take()
        assert old is not None
        if how == "fenced":
            part.fence()
        else:
            part.start(REMOTE, old)
        fresh = part.take()
        assert fresh is not None
        write(part, fresh, fresh.end)
        with pytest.raises(Fenced):
            part.start(REMOTE, old)
        with pytest.raises(Fenced):
            part.learn_total(1, old)
        assert part.remote == REMOTE
        assert part.proven_bytes == PIECE


AFTER_CLOSE: dict[str, Callable[[PartFile, Piece], object]] = {
    "write": lambda part, piece: write(part, piece, 10),
    "take": lambda part, piece: part.take(),
    "take_after": lambda part, piece: part.take_after(piece),
    "start": lambda part, piece: part.start(REMOTE),
    "start with a piece": lambda part, piece: part.start(REMOTE, piece),
    "learn_total": lambda part, piece: part.learn_total(10, piece),
    "meant_for": lambda part, piece: part.meant_for("another"),
    "start_over": lambda part, piece: part.start_over(),
    "empty": lambda part, piece: part.empty(),
    "discard": lambda part, piece: part.discard(),
    "set_aside": lambda part, piece: part.set_aside(),
    "digests": lambda part, piece: part.digests(),
    "forget": lambda part, piece: part.forget(),
}


@pytest.mark.parametrize("late", AFTER_CLOSE.values(), ids=AFTER_CLOSE)
def test_who_comes_to_a_closed_file_changes_nothing(
    path: Path, late: Callable[[PartFile, Piece], object]
) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        done, piece = part.take(), part.take()
        assert done is not None
        assert piece is not None
        write(part, done, done.end)
    files = {file: file.read_bytes() for file in path.parent.iterdir()}
    other = path.parent / "other"
    with other.open("w+b") as file:  # its descriptor most likely has the number of the closed one
        file.write(b"of somebody else")
        file.flush()
        with pytest.raises(Fenced):
            late(part, piece)
        part.give_back(piece)
    assert other.read_bytes() == b"of somebody else"
    assert {file: file.read_bytes() for file in path.parent.iterdir() if file != other} == files


def test_old_journal_goes_on(path: Path) -> None:
    with PartFile(path) as part:
        part.start(REMOTE)
        while (piece := part.take()) and piece.number < 2:
            write(part, piece, piece.end)
    head, *lines = journal_of(path).read_text().splitlines()
    old = [head.replace('"schema_version": 2', '"schema_version": 1')]
    old += [line.split()[1] for line in lines]
    journal_of(path).write_text("\n".join(old) + "\n")
    with PartFile(path) as part:
        assert part.size == 2 * PIECE
        while piece := part.take():
            write(part, piece, piece.end)
        part.digests()
    assert path.read_bytes() == CONTENT


@settings(max_examples=25, deadline=None)
@given(
    kills=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 150)), max_size=3),
    seed=st.integers(0, 1 << 16),
)
def test_any_order_and_any_kills_give_the_same_bytes(
    kills: list[tuple[int, int]], seed: int
) -> None:
    """Streams write blocks in turn; a kill may also cost bytes of the part and of its journal."""
    dice = random.Random(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.part"
        for blocks, lost in kills:
            work(path, dice, blocks)
            for file in (path, journal_of(path)):
                os.truncate(file, max(0, file.stat().st_size - lost))
        sha256 = work(path, dice, 10_000)
        assert path.read_bytes() == CONTENT
        assert work(path, dice, 0) == sha256


def work(path: Path, dice: random.Random, blocks: int) -> str:
    """Let four streams write so many blocks; return the digest if the file is complete then."""
    with PartFile(path) as part:
        if part.remote is None:
            part.start(REMOTE)
        held: list[Piece] = []
        for _ in range(blocks):
            if len(held) < 4 and (fresh := part.take()):
                held.append(fresh)
            if not held:
                break
            piece = dice.choice(held)
            write(part, piece, min(piece.end, piece.at + dice.choice([1, 70_000, PIECE])))
            if not piece.room:
                held.remove(piece)
            elif dice.random() < 0.1:
                held.remove(piece)
                part.give_back(piece)
        return part.digests()["sha256"] if part.is_complete else ""
