"""An index of any length over a small archive, whose rows can be read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.archives import listed, ref_of

from imagenet_etl.archives.listing import MEMBERS, tabulated
from imagenet_etl.archives.location import open_archive
from imagenet_etl.datasets import IMAGENET_FALL11
from imagenet_etl.errors import ConfigError, KeyExists
from imagenet_etl.index import INDEX, member_of
from imagenet_etl.samples.imagenet_full import build_imagenet_full
from imagenet_etl.samples.synthetic_index import spread, write_synthetic_index
from imagenet_etl.storage import LocalStorage
from imagenet_etl.tables import read_table


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "fall11_whole.tar"
    build_imagenet_full(path, None, [4, 3])
    return path


@pytest.fixture
def pool(archive):
    return pa.concat_tables(tabulated(listed(archive, IMAGENET_FALL11)))


def written(tmp_path, rows, classes, pool):
    sizes = write_synthetic_index(tmp_path / "images.parquet", rows, classes, pool)
    return sizes, read_table(LocalStorage(tmp_path), "images.parquet")


def test_it_has_the_rows_and_classes_that_were_asked_for(tmp_path, pool):
    sizes, table = written(tmp_path, 5000, 20, pool)
    assert table.schema.equals(INDEX, check_metadata=True)
    found = {row["values"]: row["counts"] for row in table["wnid"].value_counts().to_pylist()}
    assert found == sizes
    assert (len(sizes), sum(sizes.values())) == (20, 5000)
    assert min(sizes.values()) < 501 < max(sizes.values())
    assert set(table["split"].to_pylist()) == {"train"}
    assert set(table["archive"].to_pylist()) == {"fall11_whole.tar"}


def test_its_names_are_like_the_real_ones_and_distinct(tmp_path, pool):
    _, table = written(tmp_path, 5000, 20, pool)
    names = table["member"].to_pylist()
    pattern = IMAGENET_FALL11.layout.images["train"]
    for row in table.select(["member", "wnid", "file_name"]).to_pylist():
        match = pattern.fullmatch(row["member"])
        assert (match["wnid"], match["file"]) == (row["wnid"], row["file_name"])
    assert len(set(names)) == 5000
    wnids = table["wnid"].to_pylist()
    assert wnids == sorted(wnids)  # class tar by class tar
    largest = [n for n, wnid in zip(names, wnids, strict=True) if wnid == wnids[0]]
    assert largest != sorted(largest)


def test_any_row_can_be_read_from_the_small_archive(tmp_path, archive, pool):
    _, table = written(tmp_path, 100, 3, pool)
    with open_archive(LocalStorage(tmp_path), ref_of(archive)) as opened:
        for row in table.take([0, 6, 7, 50, 99]).to_pylist():
            data = opened.read(member_of(row))
            assert data[:2] == b"\xff\xd8"
            assert len(data) == row["size"]
    assert table["offset"][:7] == table["offset"][7:14]


def test_its_row_groups_are_those_of_an_index(tmp_path, pool):
    written(tmp_path, 140_000, 500, pool)
    metadata = pq.ParquetFile(tmp_path / "images.parquet").metadata
    rows = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert rows == [65_536, 65_536, 140_000 - 2 * 65_536]


def test_the_same_call_gives_the_same_bytes(tmp_path, pool):
    for name in ("one", "two"):
        write_synthetic_index(tmp_path / name, 1000, 7, pool)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("rows", "classes"), [(1, 1), (7, 7), (8, 7), (100, 99), (14_200_000, 21_841)]
)
def test_sizes_add_up_and_no_class_is_empty(rows, classes):
    sizes = spread(rows, classes)
    assert (len(sizes), sizes.sum(), sizes.min() >= 1) == (classes, rows, True)


def test_kept_and_small_classes_are_mixed():
    is_kept = spread(14_200_000, 21_841) > 500
    changes = (is_kept[1:] != is_kept[:-1]).sum()
    assert 5000 < is_kept.sum() < 15_000
    assert changes > 1000


@pytest.mark.parametrize(("rows", "classes"), [(0, 0), (5, 0), (5, 6), (0, 1)])
def test_impossible_numbers_are_refused(tmp_path, pool, rows, classes):
    with pytest.raises(ConfigError, match="synthetic index"):
        write_synthetic_index(tmp_path / "i", rows, classes, pool)


def test_an_empty_pool_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="one member in the pool"):
        write_synthetic_index(tmp_path / "i", 5, 2, MEMBERS.empty_table())


def test_nothing_is_overwritten(tmp_path, pool):
    (tmp_path / "i").write_bytes(b"mine")
    with pytest.raises(KeyExists):
        write_synthetic_index(tmp_path / "i", 5, 2, pool)
