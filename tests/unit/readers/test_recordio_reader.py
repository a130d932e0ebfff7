import itertools
import multiprocessing
import os
import pickle
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagenet_etl.errors import ConfigError, DatasetDamaged, RecordError
from imagenet_etl.readers import RecordIoReader, recordio
from imagenet_etl.records.recordio import MAGIC

IMAGES = [b"abc", MAGIC, b"", b"x" * 9 + MAGIC, b"abcd" + MAGIC + b"ef", b"\0" * 100, b"last"]
RECORDS = list(enumerate(IMAGES, 10))
GOLDEN = Path(__file__).parents[2] / "golden/recordio"


def images(reader):
    return [item.image for item in reader]


def pairs(reader):
    return [(item.key, item.image) for item in reader]


def test_items_come_with_labels_key_and_image(pack):
    reader = RecordIoReader(pack("a", RECORDS))
    assert len(reader) == len(RECORDS)
    assert pairs(reader) == RECORDS
    assert [item.labels for item in reader] == [(float(key % 3),) for key, _ in RECORDS]


def test_items_are_found_by_number_from_both_ends(pack):
    reader = RecordIoReader(str(pack("a", RECORDS)))
    for number in range(-len(RECORDS), len(RECORDS)):
        assert (reader[number].key, reader[number].image) == RECORDS[number]


@pytest.mark.parametrize("number", [7, -8, 10**9])
def test_a_number_beyond_the_ends_is_an_index_error(pack, number):
    with pytest.raises(IndexError):
        RecordIoReader(pack("a", RECORDS))[number]


def test_mxnets_own_files_are_read_with_several_labels():
    reader = RecordIoReader(GOLDEN / "multilabel/t.rec")
    assert {len(item.labels) for item in reader} == {3}
    assert sorted(item.image for item in reader) == sorted(
        path.read_bytes() for path in (GOLDEN / "tree").rglob("*.JPEG")
    )


@given(cuts=st.lists(st.integers(0, len(RECORDS)), max_size=3), part=st.slices(len(RECORDS)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_files_and_their_slices_are_one_list(tmp_path_factory, pack, cuts, part):
    bounds = [0, *sorted(cuts), len(RECORDS)]
    name = os.urandom(8).hex()
    paths = [
        pack(f"{name}_{n}", RECORDS[start:stop])
        for n, (start, stop) in enumerate(itertools.pairwise(bounds))
    ]
    reader = RecordIoReader(paths)
    assert reader.paths == paths
    assert pairs(reader) == RECORDS
    assert pairs(reader[part]) == RECORDS[part]
    assert pairs(reader[part][::-1]) == RECORDS[part][::-1]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_shards_hold_each_record_once_and_are_of_even_length(pack, count):
    reader = RecordIoReader(pack("a", RECORDS))
    parts = [reader.shard(index, count) for index in range(count)]
    assert [pair for part in parts for pair in pairs(part)] == RECORDS
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_of_a_slice_stays_within_it(pack):
    reader = RecordIoReader(pack("a", RECORDS))
    assert pairs(reader[2:6].shard(1, 2)) == RECORDS[4:6]


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_cannot_be_is_refused(pack, index, count):
    with pytest.raises(ConfigError, match=f"shard {index} of {count}"):
        RecordIoReader(pack("a", RECORDS)).shard(index, count)


def test_an_empty_file_has_no_records(pack):
    reader = RecordIoReader([pack("a", []), pack("b", RECORDS[:1]), pack("c", [])])
    assert pairs(reader) == RECORDS[:1]
    assert len(RecordIoReader(reader.paths[0])) == 0


def test_more_files_than_may_be_open_at_a_time_are_read_in_any_order(pack, monkeypatch):
    monkeypatch.setattr(recordio, "_MOST_MAPS", 4)
    paths = [pack(f"s{number:03d}", [(number, b"%d" % number)]) for number in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        reader = RecordIoReader(paths)
        found = [reader[number * 37 % 100].key for number in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [number * 37 % 100 for number in range(300)]


def test_threads_share_a_reader(pack, monkeypatch):
    monkeypatch.setattr(recordio, "_MOST_MAPS", 2)
    paths = [
        pack(f"s{n}", [(n * 10 + k, b"%d" % (n * 10 + k)) for k in range(10)]) for n in range(9)
    ]
    reader = RecordIoReader(paths)
    wanted = [number * 31 % 90 for number in range(3000)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: reader[number].image, wanted))
    assert found == [b"%d" % number for number in wanted]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_every_start_method_get_a_reader(pack, method):
    reader = RecordIoReader([pack("a", RECORDS[:3]), pack("b", RECORDS[3:])])[1:]
    assert reader[0].image == IMAGES[1]  # mapped before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        parts = pool.map(images, [reader.shard(index, 2) for index in range(2)])
    assert parts == [IMAGES[1:4], IMAGES[4:]]


def test_a_pickle_carries_the_offsets_and_no_map(pack):
    path = pack("a", RECORDS)
    reader = RecordIoReader(path)
    assert images(reader) == IMAGES
    sent = pickle.dumps(reader[2:4])
    path.with_suffix(".idx").unlink()
    assert images(pickle.loads(sent)) == IMAGES[2:4]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*gone\.rec"):
        RecordIoReader(tmp_path / "gone.rec")


def test_a_missing_index_is_named(pack):
    path = pack("a", RECORDS)
    path.with_suffix(".idx").unlink()
    with pytest.raises(DatasetDamaged, match=r"a\.idx is missing"):
        RecordIoReader(path)


def test_every_cut_of_the_file_is_refused(pack):
    path = pack("a", RECORDS)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises((DatasetDamaged, RecordError), match=r"a\.rec"):
            RecordIoReader(path)


def test_a_file_that_grew_is_refused(pack):
    path = pack("a", RECORDS)
    with path.open("ab") as file:
        file.write(bytes(4))
    with pytest.raises(DatasetDamaged, match="does not fit"):
        RecordIoReader(path)


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, -1), slice(1, None)])
def test_an_index_that_lacks_its_first_or_last_line_is_refused(pack, kept):
    path = pack("a", RECORDS)
    index = path.with_suffix(".idx")
    index.write_text("".join(index.read_text().splitlines(keepends=True)[kept]))
    with pytest.raises(DatasetDamaged, match="does not fit"):
        RecordIoReader(path)


@pytest.mark.parametrize("line", ["x\ty", "1", "1\t-4", f"1\t{2**70}", "1\t2\t3", "\xff"])
def test_a_malformed_index_is_refused_by_name(pack, line):
    path = pack("a", RECORDS)
    with path.with_suffix(".idx").open("a") as file:
        file.write(line + "\n")
    with pytest.raises((RecordError, DatasetDamaged), match=r"a\.(idx|rec)"):
        RecordIoReader(path)


def test_another_files_index_is_refused(pack):
    path, other = pack("a", RECORDS), pack("b", RECORDS[:4])
    path.with_suffix(".idx").write_bytes(other.with_suffix(".idx").read_bytes())
    with pytest.raises(DatasetDamaged, match="does not fit"):
        RecordIoReader(path)


def test_a_damaged_record_is_named_when_it_is_read(pack):
    path = pack("a", RECORDS)
    at = int(path.with_suffix(".idx").read_text().splitlines()[3].split("\t")[1])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\0")
    reader = RecordIoReader(path)
    assert reader[2].image == IMAGES[2]
    with pytest.raises(RecordError, match=f"a.rec: no RecordIO magic at byte {at}"):
        reader[3]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x"),
                                    lambda path: path.write_bytes(b"")])  # fmt: skip
def test_a_file_that_changes_before_it_is_mapped_is_refused(pack, change):
    reader = RecordIoReader(pack("a", RECORDS))
    change(reader.paths[0])
    with pytest.raises(DatasetDamaged, match="has changed since it was opened"):
        reader[0]
