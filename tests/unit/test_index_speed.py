"""The index is made in bulk: work a member stays small, and memory does not follow the members."""

import re
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
from tests.support.archives import ref_of
from tests.support.tars import ARCHIVE, END, Entry, class_tar, raw_tar, time_index, write_large

from imagenet_etl.archives import tar_blocks
from imagenet_etl.archives.class_tars import tars_of
from imagenet_etl.archives.layout import Sorter
from imagenet_etl.archives.listing import BATCH_MEMBERS
from imagenet_etl.archives.location import open_archive
from imagenet_etl.datasets import ILSVRC2012
from imagenet_etl.errors import UnexpectedMember, UnsafeMember
from imagenet_etl.storage import LocalStorage

ANY_NAME = {"train": re.compile(r"(?P<wnid>n[0-9]{8})\.tar/(?P<file>.*)")}
MEASURE = """
import sys
from pathlib import Path
from tests.support.tars import peak_mb, time_index
before = peak_mb()
rows, _ = time_index(Path(sys.argv[1]), Path(sys.argv[2]))
print(rows, peak_mb() - before)
"""


def test_an_index_of_many_small_members_is_right(tmp_path):
    rows, seconds = time_index(write_large(tmp_path / ARCHIVE, 30_000), tmp_path / "images")
    assert rows == 30_000
    assert seconds > 0
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "images")
    assert len(table["wnid"].unique()) == 24
    assert table["member"][29_999].as_py() == "n00000023.tar/n00000023_99.JPEG"
    assert table["size"].to_pylist()[:103] == [*range(101), 0, 1]


def test_usual_headers_are_never_looked_at_one_by_one(tmp_path, monkeypatch):
    """The speed rests on this; seconds would depend on the machine."""
    closer_looks = []
    monkeypatch.setattr(tar_blocks, "check_header", lambda *args: closer_looks.append(args))
    time_index(write_large(tmp_path / ARCHIVE, 5000), tmp_path / "images")
    assert closer_looks == []


def test_memory_does_not_follow_the_number_of_members(tmp_path):
    path = write_large(tmp_path / ARCHIVE, 200_000)
    command = [sys.executable, "-c", MEASURE, path, tmp_path / "images"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, grown_mb = done.stdout.split()
    assert int(rows) == 200_000
    assert float(grown_mb) < 160


def inside_of(path):
    with open_archive(LocalStorage(path.parent), ref_of(path)) as opened:
        yield from opened.inside(tars_of(pa.concat_tables(opened.listed())))


def index(path, facts=ILSVRC2012):
    with open_archive(LocalStorage(path.parent), ref_of(path)) as opened:
        return sum(table.num_rows for table in Sorter(facts, ARCHIVE).images(opened))


def test_a_class_tar_of_many_members_comes_in_parts_and_small_ones_together(tmp_path):
    path = write_large(tmp_path / ARCHIVE, 70_000, per_class=30_000)
    parts = list(inside_of(path))
    assert max(part.members.num_rows for part in parts) < 2 * BATCH_MEMBERS
    assert sum(part.members.num_rows for part in parts) == 70_000
    seen = 0
    for part in parts:
        # Rows are whole only when a class tar has come to its end, and none begins with a tail.
        assert len({name[:9] for name in part.members["member"].to_pylist()}) <= 1
        seen += part.members.num_rows
        if part.whole:
            assert seen == min(30_000 * part.done, 70_000)
    assert [part.done for part in parts if part.whole] == [1, 2, 3]
    small = write_large(tmp_path / "small.tar", 5000, per_class=10)
    (part,) = inside_of(small)
    assert (part.members.num_rows, part.done, part.whole) == (5000, 500, True)


@pytest.mark.parametrize("before", [0, 100], ids=["alone", "after a small one"])
@pytest.mark.parametrize("second", [b"n00000001_0.JPEG", b"N00000001_0.jpeg"])
def test_a_name_that_appears_twice_in_far_parts_of_a_class_tar_is_noticed(tmp_path, before, second):
    names = [*(b"n00000001_%d.JPEG" % k for k in range(20_000)), second]
    inner = b"".join(Entry(name, b"").header() for name in names) + END
    small = class_tar("n00000000", {f"n00000000_{k}.JPEG": b"" for k in range(before)})
    path = tmp_path / ARCHIVE
    path.write_bytes(raw_tar([*([small] if before else []), Entry(b"n00000001.tar", inner)]))
    first_at = (len(bytes(small)) if before else 0) + 512
    with pytest.raises(UnexpectedMember) as caught:
        index(path, replace(ILSVRC2012, layout=replace(ILSVRC2012.layout, images=ANY_NAME)))
    assert f"n00000001.tar/{second.decode()} appears twice" in str(caught.value)
    assert f"bytes {first_at} and {first_at + 20_000 * 512}" in str(caught.value)


def test_equal_names_in_two_large_class_tars_are_no_duplicates(tmp_path):
    names = b"".join(Entry(b"%d" % k, b"").header() for k in range(BATCH_MEMBERS + 9)) + END
    path = tmp_path / ARCHIVE
    path.write_bytes(raw_tar([Entry(b"n0000000%d.tar" % k, names) for k in (1, 2)]))
    facts = replace(ILSVRC2012, layout=replace(ILSVRC2012.layout, images=ANY_NAME))
    assert index(path, facts) == 2 * (BATCH_MEMBERS + 9)


def test_too_many_members_of_one_class_tar_are_refused_before_it_is_read_to_its_end(tmp_path):
    path = write_large(tmp_path / ARCHIVE, 100_000, per_class=100_000)
    # What follows the cap is never looked at: it could be any number of members.
    with path.open("r+b") as file:
        file.seek(512 * 80_000)
        file.write(b"noise" * 10_000)
    facts = replace(ILSVRC2012, layout=replace(ILSVRC2012.layout, max_members=20_000))
    with pytest.raises(UnsafeMember, match="has too many members: expected 20000"):
        index(path, facts)


def test_memory_does_not_follow_the_members_of_one_class_tar(tmp_path):
    path = write_large(tmp_path / ARCHIVE, 200_000, per_class=200_000)
    command = [sys.executable, "-c", MEASURE, path, tmp_path / "images"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, grown_mb = done.stdout.split()
    assert int(rows) == 200_000
    assert float(grown_mb) < 160
