"""Several class tars are walked at once, and yet everything comes in their order."""

import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.by_request import ByRequest
from tests.support.resources import open_files
from tests.support.tars import Entry, class_tar, raw_tar

from imagenet_etl.archives.class_tars import (
    WALKERS,
    WALKERS_BY_REQUEST,
    ClassTar,
    Span,
    tars_of,
    walks,
)
from imagenet_etl.archives.folder_tars import open_in_folder, stamp_of
from imagenet_etl.archives.nested import list_inside
from imagenet_etl.archives.opened import OpenFile
from imagenet_etl.archives.tar_gz import Unpacked
from imagenet_etl.errors import BadArchive, UnsafeMember


class Tars:
    """Class tars in memory that note which of them were opened."""

    def __init__(self, contents: list[bytes]) -> None:
        self.tars = [ClassTar(f"n{k:08d}.tar", 0, len(c), 0) for k, c in enumerate(contents)]
        self._contents = {tar.name: c for tar, c in zip(self.tars, contents, strict=True)}
        self.opened: list[str] = []
        self.open_now = 0
        self.delay_s = 0.0

    @contextmanager
    def opening(self, tar):
        self.opened.append(tar.name)
        self.open_now += 1
        time.sleep(self.delay_s if tar.name == self.tars[0].name else 0)
        content = Unpacked(self._contents[tar.name], "")
        try:
            yield Span(content, 0, tar.size)
        finally:
            self.open_now -= 1


def good(number: int) -> bytes:
    return class_tar("n", {f"{number}_{k}": b"x" for k in range(3)}).data


EVIL = raw_tar([Entry(b"../evil")])


def names_of(parts) -> list[str]:
    return [name for part in parts for name in part.members["member"].to_pylist()]


def test_members_come_in_order_even_when_the_first_class_tar_is_slow() -> None:
    tars = Tars([good(k) for k in range(30)])
    tars.delay_s = 0.2
    found = names_of(list_inside(tars.tars, tars.opening, "x"))
    assert found == [f"n{k:08d}.tar/{k}_{m}" for k in range(30) for m in range(3)]
    assert tars.open_now == 0


def test_no_more_than_a_few_are_begun_ahead() -> None:
    tars = Tars([good(k) for k in range(100)])
    begun = walks(iter(tars.tars), tars.opening, "x")
    next(begun)
    assert len(tars.opened) <= WALKERS + 1
    begun.close()
    assert len(tars.opened) <= WALKERS + 1


def test_as_many_as_there_are_walkers_wait_for_the_disk_together() -> None:
    """Without that each header of a slow disk would cost its whole latency."""
    tars = Tars([good(k) for k in range(2 * WALKERS)])
    together = threading.Barrier(WALKERS)

    @contextmanager
    def opening(tar):
        together.wait(timeout=30)  # for the others, which have to be at it as well
        with tars.opening(tar) as span:
            yield span

    assert len(names_of(list_inside(tars.tars, opening, "x"))) == 6 * WALKERS


def test_class_tars_in_a_bucket_have_64_requests_under_way() -> None:
    together = threading.Barrier(WALKERS_BY_REQUEST)

    class Meeting(ByRequest):
        def read_at(self, offset, size):
            if threading.current_thread().name.startswith("class-tar"):
                together.wait(timeout=30)
            return super().read_at(offset, size)

    data = raw_tar(Entry(b"n%08d.tar" % k, good(k)) for k in range(2 * WALKERS_BY_REQUEST))
    file = Meeting(Unpacked(data, "etag"))
    archive = OpenFile("x.tar", "x.tar", "tar", file, file.stat)
    tars = [tar for table in archive.listed() for tar in tars_of(table)]
    assert len(names_of(archive.inside(tars))) == 6 * WALKERS_BY_REQUEST
    assert WALKERS_BY_REQUEST == 64


@pytest.mark.parametrize(
    ("contents", "error"),
    [([good(0), b"", EVIL], BadArchive), ([good(0), EVIL, b""], UnsafeMember)],
)
def test_the_first_trouble_is_told_first_however_fast_the_others_are(contents, error) -> None:
    tars = Tars([*contents, *[b"" for _ in range(20)]])
    tars.delay_s = 0.1
    with pytest.raises(error, match=r"^x: n00000001\.tar"):
        list(list_inside(tars.tars, tars.opening, "x"))


def test_what_came_before_the_trouble_is_handed_on_first() -> None:
    tars = Tars([good(0), good(1), b""])
    parts = list_inside(tars.tars, tars.opening, "x")
    assert names_of([next(parts)]) == [f"n{k:08d}.tar/{k}_{m}" for k in range(2) for m in range(3)]
    with pytest.raises(BadArchive, match=r"^x: n00000002\.tar"):
        next(parts)


@pytest.mark.parametrize("contents", [[good(0), b"", good(2)], [good(k) for k in range(40)]])
def test_nothing_stays_open_and_no_thread_stays_when_it_is_given_up(tmp_path, contents) -> None:
    for number, content in enumerate(contents):
        (tmp_path / f"n{number:08d}.tar").write_bytes(content)
    paths = sorted(tmp_path.iterdir())
    tars = [ClassTar(p.name, 0, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    before = (open_files(), threading.active_count())

    def opening(tar):
        return open_in_folder(tmp_path, tar)

    begun = walks(tars, opening, "x")
    next(begun)
    begun.close()
    del begun
    with pytest.raises(BadArchive) if b"" in contents else nullcontext():
        list(list_inside(tars, opening, "x"))
    assert (open_files(), threading.active_count()) == before


@given(st.lists(st.sampled_from(["good", "bad", "empty"]), max_size=25))
def test_tolerated_class_tars_are_told_in_order_and_the_others_are_whole(kinds) -> None:
    contents = {"good": good, "bad": lambda k: good(k)[:-700], "empty": lambda _: raw_tar([])}
    tars = Tars([contents[kind](k) for k, kind in enumerate(kinds)])
    parts = list(list_inside(tars.tars, tars.opening, "x", tolerant=True))
    assert names_of(parts) == [
        f"n{k:08d}.tar/{k}_{m}" for k, kind in enumerate(kinds) if kind == "good" for m in range(3)
    ]
    assert [bad.tar.name for part in parts for bad in part.bad] == [
        tar.name for tar, kind in zip(tars.tars, kinds, strict=True) if kind != "good"
    ]
    assert [part.done for part in parts[-1:]] == [len(kinds)] * bool(kinds)


@given(st.integers(0, 2**60), st.integers(-(2**62), 2**62))
def test_a_stamp_and_a_checksum_fit_a_signed_number_of_64_bits(size: int, mtime_ns: int) -> None:
    assert 0 <= stamp_of(size, mtime_ns) << 32 | 0xFFFFFFFF < 2**63


def test_the_stamp_of_the_listing_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "n00000000.tar"
    path.write_bytes(good(0))
    state = path.stat()
    tar = ClassTar(path.name, 0, state.st_size, state.st_mtime_ns)
    with open_in_folder(tmp_path, tar) as span:
        assert span.stamp == stamp_of(state.st_size, state.st_mtime_ns)
