"""How the check works: in threads, row group by row group, past the page cache."""

import ctypes
import mmap
import os
import shutil
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pytest
from tests.support.resources import open_files

from imagenet_etl.check import Tree, loose
from imagenet_etl.check.run import Run
from imagenet_etl.check.sample import Sample
from imagenet_etl.check.table import RecordTable
from imagenet_etl.errors import Cancelled, DatasetDamaged
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.progress import Meter
from imagenet_etl.records.table import LOOSE_FILES, RECORDS
from imagenet_etl.storage import LocalStorage
from imagenet_etl.streams import HashedFile
from imagenet_etl.tables import open_parquet, write_batches
from imagenet_etl.verify import verify_folder

MIB = 1 << 20


def tree_of(folder):
    return Tree(LocalStorage(folder), ".")


def run_of(folder):
    return Run(tree_of(folder), Meter("verify", 0, "B"), Sample({}))


def test_jobs_are_asked_for_only_when_they_are_about_to_begin(tmp_path):
    asked, done, ahead = [], [], []

    def job(number):
        ahead.append(len(asked) - len(done))
        done.append(number)

    def jobs():
        for number in range(200):
            asked.append(number)
            yield partial(job, number)

    run_of(tmp_path).do(jobs())
    assert sorted(done) == list(range(200))
    assert max(ahead) <= 2 * len(os.sched_getaffinity(0)) + 2


@pytest.mark.parametrize("trouble", [DatasetDamaged("x is damaged"), Cancelled(), MemoryError()])
def test_when_one_job_fails_the_others_end_soon_and_its_error_is_told(tmp_path, trouble):
    run = run_of(tmp_path)
    started, blocks = threading.Event(), []

    def fails():
        started.wait(10)
        raise trouble

    def goes_on():
        for block in range(1000):
            started.set()
            time.sleep(0.01)
            blocks.append(block)
            run.count(1)

    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core does one job at a time")
    with pytest.raises(type(trouble)) as caught:
        run.do([goes_on, fails, *[goes_on] * 20])
    assert caught.value is trouble
    assert len(blocks) < 500


def test_jobs_that_cannot_be_told_end_the_check(tmp_path):
    def jobs():
        yield lambda: None
        raise DatasetDamaged("the table is damaged")

    with pytest.raises(DatasetDamaged, match="the table is damaged"):
        run_of(tmp_path).do(jobs())


def test_threads_count_all_bytes(tmp_path):
    run = run_of(tmp_path)
    run.do([lambda: [run.count(3) for _ in range(1000)]] * 50)
    assert run.meter.items == 150_000


def test_two_checks_at_once_do_not_disturb_each_other(version):
    before = open_files()
    copies = [shutil.copytree(version, version.with_name(name)) for name in "abc"]
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(verify_folder, copies))
    assert [result["decoded"] for result in results] == [40, 40, 40]
    assert open_files() == before


def test_a_failed_check_leaves_nothing_open(version, refusal):
    for name in ("recordio/val/val_00000.rec", "imagefolder/files.parquet", "records.parquet"):
        data = (version / name).read_bytes()
        (version / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        before = open_files()
        assert f"{name} is damaged" in refusal()
        assert open_files() == before
        (version / name).write_bytes(data)


ROWS, GROUP = 100_000, 4096


def records(start):
    count = min(GROUP, ROWS - start)
    numbers = pa.array(range(start, start + count), pa.int64())
    columns = {
        "output": ["lmdb"] * count, "split": ["train"] * count, "key": numbers,
        "label": [7] * count, "wnid": ["n00000001"] * count, "member": ["m"] * count,
        "shard": ["data.mdb"] * count, "offset": numbers, "bytes": [3] * count,
        "sha256": [f"{number:064}" for number in range(start, start + count)],
        "width": [1] * count, "height": [1] * count, "how": ["copied"] * count,
    }  # fmt: skip
    return pa.table(columns, schema=RECORDS)


def test_memory_does_not_grow_with_the_number_of_records(tmp_path):
    """Python objects of all rows would take 35 MB here, Arrow's columns 14."""
    groups = range(0, ROWS, GROUP)
    write_batches(tmp_path / "records.parquet", RECORDS, (records(start) for start in groups))
    tree = tree_of(tmp_path)
    pool = pa.default_memory_pool()
    tracemalloc.start()
    before = pool.bytes_allocated()
    arrow = 0
    with open_parquet(tree.storage, "records.parquet") as parquet:
        table = RecordTable(tree, parquet)
        (of,) = table.files
        assert len(of.groups) == len(groups)
        count = 0
        for count, row in enumerate(table.rows(of), 1):
            assert row.offset == count - 1
            if count % 10_000 == 0:
                arrow = max(arrow, pool.bytes_allocated() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == table.counts["lmdb"] == ROWS
    assert peak < 6 * MIB
    assert arrow < 6 * MIB


def test_of_loose_names_only_hashes_are_kept(tmp_path):
    """As texts, 100,000 names would take 9 MB."""
    (tmp_path / "imagefolder").mkdir()
    names = [f"train/n{n % 1000:08}/n{n % 1000:08}_{n}.JPEG" for n in range(ROWS)]
    batches = (
        pa.table([names[start : start + GROUP], [1] * len(names[start : start + GROUP]),
                  ["0" * 64] * len(names[start : start + GROUP])], schema=LOOSE_FILES)
        for start in range(0, ROWS, GROUP)
    )  # fmt: skip
    write_batches(tmp_path / "imagefolder/files.parquet", LOOSE_FILES, batches)
    tracemalloc.start()
    is_listed = loose._listed(tree_of(tmp_path), "imagefolder")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(is_listed(f"imagefolder/{name}") for name in names[::7])
    assert not any(is_listed(f"imagefolder/{name}x") for name in names[::7])
    assert peak < 4 * MIB


def pages_in_memory(path):
    """Return how many pages of a file are in the page cache; mincore(2)."""
    size = path.stat().st_size
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
        failed = libc.mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), pages
        )
        del start
    assert failed == 0
    return sum(byte & 1 for byte in pages.raw)


def drop(path):
    """Forget a file's pages; flushed ones only can be."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_large_files_are_read_past_the_page_cache(tmp_path):
    """What is checked is the disk, and the archives that are still needed stay in memory."""
    file = HashedFile(tmp_path / "x", large=True)
    file.write(os.urandom(16 * MIB + 5))
    written = file.close()
    drop(written.path)
    if pages_in_memory(written.path):
        pytest.skip("this file system keeps its files in memory")
    written.path.read_bytes()
    if not pages_in_memory(written.path):
        pytest.skip("this system does not tell what is in the page cache")
    drop(written.path)
    run = run_of(tmp_path)
    run.check_file(ManifestFile("x", written.size, written.sha256))
    assert run.meter.items == written.size
    # The last page is read through the cache where the file does not end with a block.
    assert pages_in_memory(written.path) <= 1
