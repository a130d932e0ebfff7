import errno
import fcntl
import hashlib
import mmap
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.resources import open_files, small_files
from tests.support.small_disk import mounted

from imagenet_etl.streams import BLOCK_BYTES, HashedFile, Written, read_blocks

SHM = Path("/dev/shm")
EDGES = [0, 1, 4095, 4096, 4097, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1,
         2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 4096, 3 * BLOCK_BYTES - 1]  # fmt: skip
SIZES = st.one_of(
    st.integers(0, 5000),
    st.integers(BLOCK_BYTES - 5, BLOCK_BYTES + 5),
    st.sampled_from([4096, 16 << 10, 2 * BLOCK_BYTES + 1]),
)
NOISE = os.urandom(4 * BLOCK_BYTES)


@pytest.fixture(params=["disk", "memory", "no direct access"])
def folder(request, tmp_path):
    """A folder on the disk, on a tmpfs, and on a file system that has no O_DIRECT."""
    if request.param == "disk":
        yield tmp_path
    elif request.param == "memory":
        if not SHM.is_dir():
            pytest.skip("there is no /dev/shm here")
        with tempfile.TemporaryDirectory(dir=SHM) as name:
            yield Path(name)
    else:
        with mounted(tmp_path / "ram", "ramfs") as path:
            yield path


def write(path, pieces, *, large=True):
    file = HashedFile(path, large=large)
    file.write(*pieces)
    return file.close()


def read(path):
    return b"".join(map(bytes, read_blocks(path)))


def told(path, data):
    return Written(path, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("size", EDGES)
def test_what_is_written_is_read_and_its_digest_is_told(folder, size, large):
    path = folder / "x"
    assert write(path, [NOISE[:size]], large=large) == told(path, NOISE[:size])
    assert path.read_bytes() == NOISE[:size]
    assert read(path) == NOISE[:size]


@settings(max_examples=60, deadline=None)
@given(st.lists(SIZES, max_size=6), st.booleans())
def test_pieces_of_any_size_make_one_file(sizes, large):
    pieces = [memoryview(NOISE)[at : at + size] for at, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x"
        whole = b"".join(map(bytes, pieces))
        assert write(path, pieces, large=large) == told(path, whole)
        assert path.read_bytes() == whole


def test_the_size_is_known_while_writing(folder):
    file = HashedFile(folder / "x", large=True)
    sizes = []
    for piece in (b"", b"abc", NOISE, b"d"):
        file.write(piece)
        sizes.append(file.size)
    file.discard()
    assert sizes == [0, 3, 3 + len(NOISE), 4 + len(NOISE)]


def test_large_files_go_past_the_page_cache_where_that_can_be(tmp_path):
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no O_DIRECT")
    file = HashedFile(tmp_path / "x", large=True)
    assert fcntl.fcntl(file._fd, fcntl.F_GETFL) & os.O_DIRECT
    file.write(NOISE)
    file.discard()


def test_views_are_at_most_a_block(tmp_path):
    (tmp_path / "x").write_bytes(NOISE + b"x")
    assert [len(view) for view in read_blocks(tmp_path / "x")] == [BLOCK_BYTES] * 4 + [1]


def test_a_file_that_cannot_be_read_directly_is_read_all_the_same():
    """Files of /proc refuse O_DIRECT on every machine."""
    assert read(Path("/proc/self/cmdline")) == Path("/proc/self/cmdline").read_bytes() != b""


def test_nothing_that_exists_is_overwritten(folder):
    (folder / "x").write_bytes(b"old")
    for large in (True, False):
        with pytest.raises(FileExistsError) as caught:
            HashedFile(folder / "x", large=large)
        assert Path(caught.value.filename) == folder / "x"
    assert (folder / "x").read_bytes() == b"old"


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        HashedFile(tmp_path / "gone/x", large=True)
    with pytest.raises(FileNotFoundError, match="gone"):
        list(read_blocks(tmp_path / "gone"))


@pytest.mark.parametrize("limit", [0, 1000, 4096, BLOCK_BYTES, BLOCK_BYTES + 1000])
def test_a_full_disk_names_the_file_at_the_write_or_the_end_that_finds_it(tmp_path, limit):
    before = open_files()
    for size in (limit + 1, 3 * BLOCK_BYTES):
        file = HashedFile(tmp_path / "x", large=True)
        with small_files(limit), pytest.raises(OSError, match="File too large") as caught:
            file.write(NOISE[:size])
            file.close()
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename == str(tmp_path / "x")
        file.discard()
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before


def test_what_fits_is_written_even_where_it_ends_off_the_alignment(tmp_path):
    file = HashedFile(tmp_path / "x", large=True)
    with small_files(1000), pytest.raises(OSError, match="File too large"):
        file.write(NOISE[:BLOCK_BYTES])
        file.close()  # a block is written while the next one is gathered
    assert (tmp_path / "x").read_bytes() == NOISE[:1000]
    file.discard()


def test_discard_removes_the_file_at_any_time(folder):
    before = open_files()
    for size in (0, 5, BLOCK_BYTES, BLOCK_BYTES + 5):
        file = HashedFile(folder / "x", large=True)
        file.write(NOISE[:size])
        file.discard()
        assert list(folder.iterdir()) == []
        file.discard()
    write(folder / "x", [b"abc"])
    assert open_files() == before


def test_discard_after_close_removes_the_file_and_closes_nobody_elses(tmp_path):
    """The number of a closed file is soon that of the next one to be opened."""
    file = HashedFile(tmp_path / "x", large=True)
    file.close()
    with (tmp_path / "other").open("wb") as other:
        file.discard()
        other.write(b"still open")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").read_bytes() == b"still open"


def test_a_closed_file_takes_no_more(tmp_path):
    file = HashedFile(tmp_path / "x")
    file.write(b"abc")
    file.close()
    with pytest.raises(ValueError, match="released"):
        file.write(b"d")
    with pytest.raises((ValueError, OSError)):
        file.close()
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_each_view_is_good_until_the_next_is_asked_for(folder):
    """The next block is being read meanwhile, into other memory."""
    path = folder / "x"
    path.write_bytes(NOISE)
    at = 0
    for block in read_blocks(path):
        time.sleep(0.05)
        assert block == NOISE[at : at + len(block)]
        at += len(block)
    assert at == len(NOISE)


def test_a_file_that_shrinks_meanwhile_ends_early(folder):
    path = folder / "x"
    path.write_bytes(NOISE * 3)
    blocks = read_blocks(path)
    found = [bytes(next(blocks))]
    os.truncate(path, len(NOISE))
    found += map(bytes, blocks)
    assert len(NOISE) <= sum(map(len, found)) < 3 * len(NOISE)
    assert (NOISE * 3).startswith(b"".join(found))


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path):
    (tmp_path / "x").write_bytes(NOISE)
    before = open_files()
    with closing(read_blocks(tmp_path / "x")) as blocks:
        next(blocks)
        assert open_files() != before
    assert open_files() == before


def test_what_is_not_flushed_yet_is_read_all_the_same(tmp_path):
    """Past the page cache must not mean past what another process has just written there."""
    path = tmp_path / "x"
    path.write_bytes(NOISE)
    with path.open("r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(b"new")
        file.flush()
        assert read(path)[BLOCK_BYTES : BLOCK_BYTES + 3] == b"new"


def test_a_mapped_source_may_be_a_piece(tmp_path):
    (tmp_path / "x").write_bytes(NOISE)
    with (
        (tmp_path / "x").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        assert write(tmp_path / "y", [view]).sha256 == hashlib.sha256(NOISE).hexdigest()
