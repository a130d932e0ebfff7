import struct
import subprocess
import sys
import tracemalloc

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.resources import open_files, small_files
from tests.support.small_disk import small_disk
from tests.unit.records.helpers import files_below, record, write

from imagenet_etl.errors import NotEnoughSpace, NotWritable, RecordError
from imagenet_etl.records.caffe import parse_datum
from imagenet_etl.records.lmdb import (
    LmdbPartWriter,
    key_of,
    map_bytes,
    read_database,
    read_part,
    read_record,
    write_database,
)

SUFFIXES = LmdbPartWriter.suffixes


def part(folder, name, records):
    """Write a part; return its messages, its list and its sum."""
    with LmdbPartWriter(folder, name) as writer:
        placed = [writer.write(one) for one in records]
        files = [file.path for file in writer.commit()]
    assert [(place.name, place.offset) for place in placed] == [
        ("data.mdb", one.position) for one in records
    ]
    return files


def database(folder, parts, records=1000):
    return write_database(parts, folder, map_bytes(parts, records))


def opened(path):
    """Read a database as Caffe does: a read-only environment of its folder."""
    with lmdb.open(str(path.parent), readonly=True, lock=False) as env, env.begin() as txn:
        return list(txn.cursor())


def test_keys_are_digits_of_the_position_and_the_label():
    assert key_of(0, 0) == b"00000000_0"
    assert key_of(1_281_166, 999) == b"01281166_999"


def test_keys_values_and_order_are_those_of_the_records(tmp_path):
    records = [record(n, b"image %d" % n * n, label=n * 37 % 1000) for n in range(300)]
    parts = [part(tmp_path, f"p{n}", records[n : n + 50])[0] for n in range(0, 300, 50)]
    found = opened(database(tmp_path / "db", parts))
    assert [key for key, _ in found] == [b"%08d_%d" % (n, r.label) for n, r in enumerate(records)]
    for (_, message), one in zip(found, records, strict=True):
        datum = parse_datum(message)
        assert (datum.height, datum.width, datum.label) == (30, 40, one.label)
        assert bytes(datum.data) == one.data
        assert read_record(message).label == one.label


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2000, 4070, 4096, 8190, 100_000]), max_size=12),
       st.integers(0, 12))  # fmt: skip
def test_messages_of_any_size_come_back(tmp_path_factory, sizes, cut):
    folder = tmp_path_factory.mktemp("sizes")
    records = [record(n, bytes([n]) * size) for n, size in enumerate(sizes)]
    parts = [part(folder, "a", records[:cut])[0], part(folder, "b", records[cut:])[0]]
    path = write_database(parts, folder / "db", map_bytes(parts, len(records)))
    assert [bytes(parse_datum(message).data) for _, message in read_database(path)] == [
        one.data for one in records
    ]


def test_a_map_is_large_enough_for_many_tiny_and_for_page_sized_messages(tmp_path):
    for size in (1, 1990, 2010, 4080, 4097):
        records = [record(n, bytes(size)) for n in range(2000)]
        files = part(tmp_path / str(size), "a", records)
        path = write_database(files[:1], tmp_path / f"db{size}", map_bytes(files[:1], 2000))
        assert sum(1 for _ in read_database(path)) == 2000


def test_equal_records_give_equal_databases(tmp_path):
    records = [record(n, bytes([n]) * 5000) for n in range(60)]
    files = part(tmp_path, "a", records)
    one, other = (database(tmp_path / name, files[:1]) for name in ("one", "two"))
    assert opened(one) == opened(other)
    assert one.read_bytes() == other.read_bytes()


def test_no_memory_of_the_process_gets_into_the_file(tmp_path):
    """LMDB pads pages with whatever lay in the memory it was given."""
    files = part(tmp_path, "a", [record(n, b"i" * 2050) for n in range(50)])
    program = (
        "import sys; from pathlib import Path\n"
        "from imagenet_etl.records.lmdb import write_database\n"
        "secrets = [b'CANARY-CANARY-' * 290 for _ in range(2000)]\n"
        "del secrets\n"
        "write_database([Path(sys.argv[1])], Path(sys.argv[2]), 1 << 26)\n"
    )
    subprocess.run([sys.executable, "-c", program, files[0], tmp_path / "db"], check=True)
    assert b"CANARY" not in (tmp_path / "db/data.mdb").read_bytes()


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_no_records_make_an_empty_database(tmp_path, parts):
    files = [part(tmp_path, f"p{n}", [])[0] for n in range(parts)]
    path = database(tmp_path / "db", files)
    assert opened(path) == list(read_database(path)) == []
    assert path.stat().st_size > 0


def test_only_the_database_is_in_its_folder_and_nothing_stays_open(tmp_path):
    before = open_files()
    path = database(tmp_path / "db", part(tmp_path, "a", [record(0)])[:1])
    assert [file.name for file in path.parent.iterdir()] == ["data.mdb"]
    records = read_database(path)
    next(records)
    records.close()
    assert [file.name for file in path.parent.iterdir()] == ["data.mdb"]
    assert open_files() == before


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").write_text("old")
    with pytest.raises(FileExistsError):
        database(tmp_path / "db", [])
    assert files_below(tmp_path / "db") == {"data.mdb": b"old"}


BIG = [record(n, bytes(40_000)) for n in range(100)]


@pytest.mark.parametrize("map_size", [1 << 14, 1 << 16, 1 << 20, 3 << 20])
def test_a_full_map_is_not_enough_space_and_leaves_no_half_database(tmp_path, map_size):
    """Too small for the first records, or for the last; 4 MB are written in all."""
    files = part(tmp_path, "a", BIG)
    before = open_files()
    with pytest.raises(NotEnoughSpace, match=r"data\.mdb could not be written.*MDB_MAP_FULL"):
        write_database(files[:1], tmp_path / "db", map_size)
    assert not (tmp_path / "db").exists()
    assert open_files() == before


def test_a_map_that_is_full_after_some_commits_leaves_nothing(tmp_path):
    files = part(tmp_path, "a", [record(n, bytes(10 << 20)) for n in range(5)])
    with pytest.raises(NotEnoughSpace, match="MDB_MAP_FULL"):
        write_database(files[:1], tmp_path / "db", 45 << 20)
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("limit", [5000, 100_000, 3_000_000])
def test_a_file_size_limit_is_not_enough_space(tmp_path, limit):
    files = part(tmp_path, "a", BIG)
    before = open_files()
    with small_files(limit), pytest.raises(NotEnoughSpace, match=r"data\.mdb could not be"):
        database(tmp_path / "db", files[:1])
    assert not (tmp_path / "db").exists()
    assert open_files() == before


@pytest.mark.parametrize("size", ["100k", "2m", "3900k"])
def test_a_full_disk_is_not_enough_space_and_is_empty_again(tmp_path, size):
    files = part(tmp_path, "a", BIG)
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(NotEnoughSpace, match="Free some space, check the disk"):
            database(disk / "db", files[:1])
        assert list(disk.iterdir()) == []


def test_a_database_that_cannot_be_made_is_named(tmp_path):
    """A map larger than the address space is refused before anything is written."""
    with pytest.raises((NotWritable, NotEnoughSpace), match=r"db/data\.mdb could not be written"):
        write_database([], tmp_path / "db", 1 << 62)
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (0, 1, 1), (0, 2, 1)])
def test_keys_out_of_order_are_refused_and_leave_nothing(tmp_path, order):
    files = [part(tmp_path, f"p{n}", [record(n)])[0] for n in range(3)]
    with pytest.raises(RecordError, match=r"key b'0000000\d_\d' is out of order"):
        database(tmp_path / "db", [files[n] for n in order])
    assert not (tmp_path / "db").exists()


WHOLE = [record(0, b"abc"), record(1, b"x" * 300)]


def test_a_part_that_is_cut_off_anywhere_is_refused_and_named(tmp_path):
    path = part(tmp_path, "a", WHOLE)[0]
    data = path.read_bytes()
    first = struct.unpack_from("<II", data)
    ends = {0, 8 + sum(first), len(data)}
    for size in range(len(data)):
        path.write_bytes(data[:size])
        if size in ends:
            continue
        with pytest.raises(RecordError, match=r"a\.datums is cut off or damaged"):
            list(read_part(path))
    with pytest.raises(RecordError, match="cut off"):
        database(tmp_path / "db", [path])
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("lengths", [(0, 5), (512, 5), (2**32 - 1, 1), (3, 2**32 - 1)])
def test_lengths_that_cannot_be_are_refused_before_memory_is_taken(tmp_path, lengths):
    (tmp_path / "a.datums").write_bytes(struct.pack("<II", *lengths) + bytes(600))
    tracemalloc.start()
    with pytest.raises(RecordError, match="cut off or damaged"):
        list(read_part(tmp_path / "a.datums"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.parametrize("data", [b"", b"no database", bytes(8192), None])
def test_what_is_no_database_is_refused(tmp_path, data):
    if data is not None:
        (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(RecordError, match=r"data\.mdb cannot be read as LMDB"):
        list(read_database(tmp_path / "data.mdb"))


def test_the_list_names_each_image_and_its_label(tmp_path):
    records = [record(n, label=n * 100) for n in range(3)]
    listing = part(tmp_path, "a", records)[1].read_text()
    assert listing == "".join(f"{one.path} {one.label}\n" for one in records)


def test_parts_are_equal_for_equal_records(tmp_path):
    records = [record(n, pixels=np.full((2, 2, 3), n, np.uint8)) for n in range(4)]
    for name in ("one", "two"):
        write(LmdbPartWriter(tmp_path / name, "a"), records)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
