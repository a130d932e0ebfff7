"""Rows by their keys, in runs."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagenet_etl.aws import s3_sorted
from imagenet_etl.aws.s3_sorted import LinedUp, SortedRows

NAMES = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), unique=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(NAMES, st.integers(1, 4))
def test_rows_come_in_the_order_of_the_bytes_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], rows: int
) -> None:
    monkeypatch.setattr(s3_sorted, "RUN_ROWS", 3)
    tables = [
        pa.table({"name": names[at : at + rows], "size": list(range(len(names)))[at : at + rows]})
        for at in range(0, len(names), rows)
    ]
    by_name = SortedRows(tables, tmp_path / "scratch")
    expected = sorted(zip(names, range(len(names)), strict=True), key=lambda row: row[0].encode())
    assert list(by_name) == expected
    assert list(by_name) == expected


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.sets(st.text(max_size=3)))
def test_ascending_keys_find_their_values(rows: dict[str, int], keys: set[str]) -> None:
    lined_up = LinedUp(iter(sorted(rows.items())))
    assert [lined_up.get(key) for key in sorted(keys)] == [rows.get(key) for key in sorted(keys)]
