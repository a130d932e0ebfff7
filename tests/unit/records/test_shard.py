"""What all formats of many records a file do alike."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.resources import open_files, small_files
from tests.unit.records.helpers import RECORDS, files_below, record, write

from imagenet_etl.errors import RecordError
from imagenet_etl.records.formats import FORMATS, LOOSE
from imagenet_etl.records.recordio import RecordIoWriter
from imagenet_etl.records.shard import JoiningWriter, concatenate, text_lines
from imagenet_etl.records.webdataset import WebDatasetWriter

WRITERS = [item.writer for item in FORMATS.values() if item.kind != LOOSE]
JOINING = [writer for writer in WRITERS if issubclass(writer, JoiningWriter)]
END = {item.writer: item.end for item in FORMATS.values()}
EACH_WRITER = pytest.mark.parametrize("writer", WRITERS)
EACH_JOINING = pytest.mark.parametrize("writer", JOINING)


def test_both_kinds_of_shards_can_be_joined():
    assert [RecordIoWriter, WebDatasetWriter] == JOINING


@EACH_WRITER
def test_a_commit_that_fails_at_the_second_file_leaves_nothing(tmp_path, writer):
    """By then the first one is closed, and its number may be that of another thread's file."""
    before = open_files()
    new = writer(tmp_path / "out", "x")
    with (tmp_path / "other").open("wb") as other:
        with pytest.raises(OSError, match="File too large"), new as opened:
            opened.write(record(0))
            opened._files[1].write(bytes(10_000))
            with small_files(8_000):
                opened.commit()
        other.write(b"still open")
    assert files_below(tmp_path) == {"other": b"still open"}
    assert open_files() == before


@EACH_WRITER
def test_a_file_that_stands_in_the_way_of_a_later_one_leaves_nothing_new(tmp_path, writer):
    before = open_files()
    blocked = tmp_path / f"x{writer.suffixes[-1]}"
    blocked.write_text("old")
    with pytest.raises(FileExistsError), writer(tmp_path, "x"):
        pass
    assert files_below(tmp_path) == {blocked.name: b"old"}
    assert open_files() == before


@EACH_WRITER
def test_other_shards_in_the_folder_stay_when_one_is_discarded(tmp_path, writer):
    write(writer(tmp_path, "a"), RECORDS)
    before = files_below(tmp_path)
    with writer(tmp_path, "b") as opened:
        opened.write(RECORDS[0])
    assert files_below(tmp_path) == before


@EACH_WRITER
def test_nothing_can_be_written_after_the_commit(tmp_path, writer):
    with writer(tmp_path, "a") as opened:
        opened.commit()
        with pytest.raises(ValueError, match="released"):
            opened.write(RECORDS[0])


def parts_of(writer, folder, records, cuts):
    bounds = [0, *sorted(cuts), len(records)]
    parts = []
    for number, start in enumerate(bounds[:-1]):
        _, files = write(writer(folder, f"part{number}"), records[start : bounds[number + 1]])
        parts.append(list(files.values()))
    return parts


@EACH_JOINING
@given(
    cuts=st.lists(st.integers(0, len(RECORDS)), max_size=4),
    sizes=st.lists(st.sampled_from([0, 1, 3, 511, 512, 513, 1 << 20]), min_size=5, max_size=5),
)
def test_joined_shards_equal_what_one_writer_makes(tmp_path_factory, writer, cuts, sizes):
    folder = tmp_path_factory.mktemp("joined")
    records = [record(n, RECORDS[n].data + bytes(size)) for n, size in enumerate(sizes)]
    parts = parts_of(writer, folder / "parts", records, cuts)
    joined, starts = concatenate(writer, parts, folder / "joined", "x")
    placed, _ = write(writer(folder / "whole", "x"), records)
    assert files_below(folder / "joined") == files_below(folder / "whole")
    assert [file.path.name for file in joined] == [f"x{suffix}" for suffix in writer.suffixes]
    end = joined[0].size - len(END[writer])
    offsets = [*(place.offset for place in placed), end]
    assert starts == [offsets[cut] for cut in [0, *sorted(cuts)]]


@EACH_JOINING
@pytest.mark.parametrize(
    "index", ["no index\n", "1\t2\n3\n", "v1.2 1\njpg 512\n", "v1.2 2\njpg 512 1 a cls 1 1 b\n",
              "v1.2 1\njpg x 1 a cls 1 1 b\n"]
)  # fmt: skip
def test_a_join_with_a_broken_index_is_refused_and_leaves_no_file(tmp_path, writer, index):
    parts = parts_of(writer, tmp_path / "parts", RECORDS, [2])
    parts[1][1].write_text(index)
    before = open_files()
    with pytest.raises(RecordError, match="index"):
        concatenate(writer, parts, tmp_path / "out", "joined")
    assert not (tmp_path / "out").exists()
    assert open_files() == before


@pytest.mark.parametrize("size", [0, 1, 1023, 1024 + 3, 5 * 512])
def test_a_tar_that_does_not_end_as_one_is_not_joined(tmp_path, size):
    parts = parts_of(WebDatasetWriter, tmp_path / "parts", RECORDS, [2])
    data = parts[0][0].read_bytes()
    parts[0][0].write_bytes(data[:size])
    with pytest.raises(RecordError, match=r"part0\.tar is cut off or damaged"):
        concatenate(WebDatasetWriter, parts, tmp_path / "out", "joined")
    assert not (tmp_path / "out").exists()


@EACH_JOINING
def test_a_whole_segment_keeps_its_order(tmp_path, writer):
    records = [record(n, b"%d" % n) for n in range(4096)]
    placed, files = write(writer(tmp_path, "x"), records)
    item = next(item for item in FORMATS.values() if item.writer is writer)
    lines = text_lines([files[".idx"].read_bytes()])
    assert [at for _, at in item.read_index(lines)] == [place.offset for place in placed]


@given(st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"\x85", "ü".encode()]), max_size=20).map(
    b"".join), st.lists(st.integers(0, 20), max_size=5))  # fmt: skip
def test_lines_do_not_depend_on_how_the_text_is_cut(data, cuts):
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert list(text_lines(pieces)) == [line.decode("utf-8", "replace") for line in lines]
