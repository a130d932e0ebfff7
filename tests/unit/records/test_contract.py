"""The contract of ``RecordWriter``, over every format of ``records/layout.py``."""

import hashlib
import resource
import signal

import pytest

from imagenet_etl.config import FORMATS
from imagenet_etl.records.base import Record
from imagenet_etl.records.layout import LOOSE_FORMATS, writer_for
from imagenet_etl.records.recordio import MAGIC, read_frame, unpack_image

pytestmark = pytest.mark.parametrize("output", FORMATS)


def record(key, wnid, data):
    sha256 = hashlib.sha256(data).hexdigest()
    return Record(key, key % 2, wnid, f"{wnid}_{key}.JPEG", data, sha256)


RECORDS = [
    record(3, "n00000002", b"third" * 50),
    record(0, "n00000001", b"abcd" + MAGIC + b"e"),
    record(1, "n00000001", b"\xff\xd8 as is"),
]


def files_below(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def write(output, folder, records=RECORDS):
    with writer_for(output, folder, "train_00000") as writer:
        placed = [writer.write(item) for item in records]
        return placed, writer.commit()


def test_commit_returns_every_file_with_its_size_and_digest(tmp_path, output):
    _, written = write(output, tmp_path / "out")
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


def test_each_image_is_where_its_placement_says(tmp_path, output):
    placed, _ = write(output, tmp_path / "out")
    for item, place in zip(RECORDS, placed, strict=True):
        data = (tmp_path / "out" / place.name).read_bytes()
        data = data[place.offset : place.offset + place.size]
        assert len(data) == place.size
        if output in LOOSE_FORMATS:
            assert data == item.data
            continue
        content, end = read_frame(data, 0)
        assert end == place.size
        found = unpack_image(content)
        assert (found.key, found.labels, found.image) == (item.key, (item.label,), item.data)


def test_the_same_records_give_the_same_bytes(tmp_path, output):
    write(output, tmp_path / "one")
    write(output, tmp_path / "two")
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_leaving_without_commit_leaves_nothing(tmp_path, output):
    with writer_for(output, tmp_path / "out", "train_00000") as writer:
        for item in RECORDS:
            writer.write(item)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", range(len(RECORDS) + 1))
def test_an_exception_leaves_nothing(tmp_path, output, count):
    with (
        pytest.raises(KeyboardInterrupt),
        writer_for(output, tmp_path / "out", "train_00000") as writer,
    ):
        for item in RECORDS[:count]:
            writer.write(item)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk():
    """Let no file grow beyond 64 KiB, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_full_disk_leaves_nothing_whether_it_shows_at_a_write_or_at_the_commit(
    tmp_path, output, size, small_disk
):
    with (
        pytest.raises(OSError, match="File too large"),
        writer_for(output, tmp_path / "out", "train_00000") as writer,
    ):
        writer.write(record(0, "n00000001", bytes(size)))
        writer.commit()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_does_not_keep_a_writer_from_discarding(tmp_path, output, small_disk):
    """What is still buffered cannot be written any more when the files are closed."""
    with (
        pytest.raises((KeyboardInterrupt, OSError)),
        writer_for(output, tmp_path / "out", "train_00000") as writer,
    ):
        writer.write(record(0, "n00000001", bytes(100_000)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_exists_is_overwritten(tmp_path, output):
    write(output, tmp_path / "out")
    before = files_below(tmp_path / "out")
    with pytest.raises(FileExistsError):
        write(output, tmp_path / "out", RECORDS[:1])
    assert files_below(tmp_path / "out") == before


def test_no_records_make_an_empty_result(tmp_path, output):
    placed, written = write(output, tmp_path / "out", [])
    assert placed == []
    assert [file.size for file in written] == [0] * len(written)
