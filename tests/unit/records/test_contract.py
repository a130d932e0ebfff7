"""The contract of ``RecordWriter``, over every format of ``records/formats.py``."""

import hashlib
from itertools import pairwise

import pytest
from tests.support.resources import open_files, small_files
from tests.unit.records.helpers import RECORDS, files_below, record

from imagenet_etl import config
from imagenet_etl.errors import Cancelled
from imagenet_etl.records.formats import DATABASE, FORMATS, LOOSE, LOOSE_FORMATS, shard_name
from imagenet_etl.records.lmdb import map_bytes, read_database, write_database

NAME = "train_00000"
EACH_FORMAT = pytest.mark.parametrize("item", FORMATS.values(), ids=FORMATS)
STOPS = [KeyboardInterrupt, Cancelled, OSError, MemoryError]


def write(item, folder, records=RECORDS):
    with item.open_writer(folder, NAME) as writer:
        placed = [writer.write(one) for one in records]
        return placed, writer.commit()


def test_the_settings_know_the_same_formats():
    assert tuple(FORMATS) == config.FORMATS
    assert {"imagefolder"} == LOOSE_FORMATS


def test_paths_are_those_that_trainers_expect():
    assert {name: item.path("val", "x") for name, item in FORMATS.items()} == {
        "recordio": "recordio/val/x",
        "lmdb": "lmdb/val_db/x",
        "webdataset": "webdataset/val/x",
        "imagefolder": "imagefolder/val/x",
    }
    assert shard_name("val", 12) == "val_00012"


@EACH_FORMAT
def test_commit_returns_every_file_with_its_size_and_digest(tmp_path, item):
    _, written = write(item, tmp_path / "out")
    told = {
        file.path.relative_to(tmp_path / "out").as_posix(): (file.size, file.sha256)
        for file in written
    }
    found = {
        name: (len(data), hashlib.sha256(data).hexdigest())
        for name, data in files_below(tmp_path / "out").items()
    }
    assert told == found != {}
    assert len(written) == len(told)


def contents(item, folder, placed, written):
    """Read every record back from where its placement says that it is."""
    if item.kind == LOOSE:
        assert [file.name for file in written] == [place.name for place in placed]
        return [(None, file.path.read_bytes(), None) for file in written]
    if item.kind == DATABASE:
        parts = [written[0].path]
        database = write_database(parts, folder / "db", map_bytes(parts, len(placed)))
        found = [(int(key[:8]), item.read(message)) for key, message in read_database(database)]
        assert [position for position, _ in found] == [place.offset for place in placed]
        assert {place.name for place in placed} <= {database.name}
        return [(read.label, bytes(read.image), read.key) for _, read in found]
    data = written[0].path.read_bytes()
    index = list(item.read_index(written[1].path.read_text().splitlines()))
    assert [offset for _, offset in index] == [place.offset for place in placed]
    assert {place.name for place in placed} <= {written[0].path.name}
    starts = [*(place.offset for place in placed), len(data) - len(item.end)]
    assert data[starts[-1] :] == item.end
    read = [item.read(data[a:b]) for a, b in pairwise(starts)]
    return [(one.label, bytes(one.image), one.key) for one in read]


@EACH_FORMAT
@pytest.mark.parametrize("count", [0, 1, len(RECORDS)])
def test_each_record_is_where_its_placement_says(tmp_path, item, count):
    records = RECORDS[:count]
    placed, written = write(item, tmp_path / "out", records)
    for one, found in zip(records, contents(item, tmp_path / "out", placed, written), strict=True):
        label, image, key = found
        assert image == one.data
        assert label in (None, float(one.label))
        assert (label is None) == (item.kind == LOOSE)
        assert key == (one.key if item.name == "recordio" else None)


@EACH_FORMAT
@pytest.mark.parametrize("count", [0, 1, len(RECORDS)])
def test_the_same_records_give_the_same_bytes(tmp_path, item, count):
    write(item, tmp_path / "one", RECORDS[:count])
    write(item, tmp_path / "two", RECORDS[:count])
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


@EACH_FORMAT
def test_leaving_without_commit_leaves_nothing(tmp_path, item):
    with item.open_writer(tmp_path / "out", NAME) as writer:
        for one in RECORDS:
            writer.write(one)
    assert list(tmp_path.iterdir()) == []


@EACH_FORMAT
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("count", range(len(RECORDS) + 1))
def test_an_exception_leaves_nothing(tmp_path, item, count, stop):
    before = open_files()
    with pytest.raises(stop), item.open_writer(tmp_path / "out", NAME) as writer:
        for one in RECORDS[:count]:
            writer.write(one)
        raise stop
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before


@EACH_FORMAT
@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_full_disk_leaves_nothing_whether_it_shows_at_a_write_or_at_the_commit(
    tmp_path, item, size
):
    before = open_files()
    with (
        small_files(1 << 16),
        pytest.raises(OSError, match="File too large") as caught,
        item.open_writer(tmp_path / "out", NAME) as writer,
    ):
        writer.write(record(0, bytes(size)))
        writer.commit()
    assert list(tmp_path.iterdir()) == []
    assert caught.value.filename.startswith(f"{tmp_path}/out/")
    assert open_files() == before


@EACH_FORMAT
def test_a_full_disk_does_not_keep_a_writer_from_discarding(tmp_path, item):
    """What is still buffered cannot be written any more when the files are closed."""
    with (
        small_files(1 << 16),
        pytest.raises((KeyboardInterrupt, OSError)),
        item.open_writer(tmp_path / "out", NAME) as writer,
    ):
        writer.write(record(0, bytes(100_000)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@EACH_FORMAT
def test_nothing_that_exists_is_overwritten(tmp_path, item):
    write(item, tmp_path / "out")
    before = files_below(tmp_path / "out")
    with pytest.raises(FileExistsError):
        write(item, tmp_path / "out", RECORDS[:1])
    assert files_below(tmp_path / "out") == before


@EACH_FORMAT
def test_no_records_give_files_that_hold_none(tmp_path, item):
    placed, written = write(item, tmp_path / "out", [])
    assert placed == []
    sizes = {"recordio": [0, 0, 0], "webdataset": [1024, 7], "imagefolder": []}
    if item.name in sizes:
        assert [file.size for file in written] == sizes[item.name]
    else:
        assert [file.size for file in written][:2] == [0, 0]


@EACH_FORMAT
def test_a_path_that_is_not_ascii_is_kept_in_lists_as_utf_8(tmp_path, item):
    odd = record(0, file_name="n00000001_ü 二 x.JPEG")
    _, written = write(item, tmp_path / "out", [odd])
    if item.kind == LOOSE:
        assert written[0].name == odd.path
    lists = [f.path for f in written if f.path.suffix in (".lst", ".txt")]
    assert all(odd.path in path.read_text("utf-8") for path in lists)
    assert bool(lists) == (item.name in ("recordio", "lmdb"))
