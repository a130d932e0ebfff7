"""Tables: row groups as they were given, from a folder or a bucket, and no newer schema."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagenet_etl import tables
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew
from imagenet_etl.tables import batched, open_parquet, read_table, versioned, write_batches

SCHEMA = versioned([("key", pa.int64()), ("name", pa.string())])

pytestmark = pytest.mark.usefixtures("temporary_folder")


def publish(storage, rows, schema=SCHEMA) -> int:
    path = storage.staging() / "table"
    count = write_batches(path, schema, batched(rows, schema))
    storage.delete("t.parquet")
    storage.publish("t.parquet", path)
    return count


def test_rows_come_back_in_order_and_by_row_group(storage, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_PER_BATCH", 4)
    rows = [(number, f"n{number}") for number in range(10)]
    assert publish(storage, rows) == 10
    assert read_table(storage, "t.parquet").to_pylist() == [
        {"key": key, "name": name} for key, name in rows
    ]
    assert read_table(storage, "t.parquet", ["name"]).column_names == ["name"]
    with open_parquet(storage, "t.parquet") as table:
        assert table.num_row_groups == 3
        assert table.read_row_group(2).to_pydict() == {"key": [8, 9], "name": ["n8", "n9"]}


def test_a_table_may_be_empty(storage):
    assert publish(storage, []) == 0
    assert read_table(storage, "t.parquet").num_rows == 0
    assert read_table(storage, "t.parquet").schema.names == ["key", "name"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=8)), max_size=30
    ),
    size=st.integers(1, 10),
)
def test_any_rows_come_back(storage, monkeypatch, rows, size):
    monkeypatch.setattr(tables, "ROWS_PER_BATCH", size)
    publish(storage, rows)
    found = read_table(storage, "t.parquet").to_pydict()
    assert list(zip(found["key"], found["name"], strict=True)) == rows


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="zip"):
        list(batched([(1, "a", "surplus")], SCHEMA))


def test_a_newer_schema_is_refused(storage, monkeypatch):
    monkeypatch.setattr(tables, "TABLE_SCHEMA", tables.TABLE_SCHEMA + 1)
    publish(storage, [(1, "a")], versioned([("key", pa.int64()), ("name", pa.string())]))
    assert read_table(storage, "t.parquet").num_rows == 1
    monkeypatch.undo()
    with pytest.raises(SchemaTooNew, match=r"t\.parquet was written by a newer version.*found 2"):
        read_table(storage, "t.parquet")


def test_a_table_without_a_version_is_older_than_any(storage):
    path = storage.staging() / "table"
    pq.write_table(pa.table({"key": [1]}), path)
    storage.publish("t.parquet", path)
    assert read_table(storage, "t.parquet").num_rows == 1


@pytest.mark.parametrize("keep", [0, 3, 100])
def test_a_table_that_is_cut_off_is_named(storage, keep):
    publish(storage, [(number, "x" * 100) for number in range(50)])
    storage.put("cut.parquet", (storage.read("t.parquet") or b"")[:keep])
    with pytest.raises(DatasetDamaged, match=r"cut\.parquet is damaged"):
        read_table(storage, "cut.parquet")


def test_a_missing_table_is_a_missing_file(storage):
    with pytest.raises(FileNotFoundError):
        read_table(storage, "never.parquet")
