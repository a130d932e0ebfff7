import json

import pytest
from benchmarks import compare, figures, table
from benchmarks.compare import medians
from benchmarks.measure import Cost

ABOUT = {"cores": 2, "cpu": "a processor", "source": "500 images", "runs": 3}


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    table.PAGE.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    return table.PAGE


def result(name, seconds, **more):
    side = {
        "seconds": seconds,
        "cpu_seconds": 5.5,
        "peak_bytes": 2e8,
        "written_bytes": 1e9,
        "steps": {},
    }
    row = compare.COMPARISONS[name]
    return {
        "title": row.title, "least": row.least, "cold": row.cold, "ratio": 12 / seconds,
        "peer": side | {"seconds": 12.0}, "ours": side, **more,
    }  # fmt: skip


def test_a_row_is_written_between_the_markers_and_nothing_else_changes(page):
    table.keep("litdata", result("litdata", 3.0), ABOUT | {"versions": {"litdata": "0.2"}})
    table.write_page()
    text = page.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\n")
    assert text.endswith(f"{table.END}\nafter\n")
    assert "old" not in text
    assert "| 12.0 s | 3.0 s | **4.00x** | 3x |" in text


def test_writing_twice_changes_nothing(page):
    table.keep("litdata", result("litdata", 3.0), ABOUT | {"versions": {}})
    table.write_page()
    before = page.read_text()
    table.write_page()
    assert page.read_text() == before


def test_rows_measured_alone_join_those_measured_before_in_their_fixed_order(page):
    table.keep("litdata", result("litdata", 3.0), ABOUT | {"versions": {"litdata": "0.2"}})
    table.keep(
        "short_edge_480", result("short_edge_480", 2.0), ABOUT | {"versions": {"mxnet": "1"}}
    )
    rows = [line for line in table.tables(table.kept()).splitlines() if "**" in line]
    assert ["6.00x" in row for row in rows] == [True, False]
    assert "litdata 0.2" in table.tables(table.kept())
    assert table.tables(table.kept()).count("2 cores of a processor") == 1


def test_the_time_without_untar_has_a_column_of_its_own(page):
    table.keep("litdata", result("litdata", 3.0, ratio_without_untar=2.5), ABOUT | {"versions": {}})
    assert "| 2.50x |" in table.tables(table.kept())


def test_figures_that_miss_their_aim_say_so(page):
    rows = [figures.figure("a", "1", "2", False), figures.figure("b", "3", "2", True)]
    table.keep("index", rows, ABOUT | {"versions": {}})
    lines = table.tables(table.kept()).splitlines()
    assert "| a | 1 | 2 | missed |" in lines
    assert "| b | 3 | 2 | reached |" in lines


def test_medians_of_times_and_peaks_of_bytes_are_kept():
    costs = [
        Cost(seconds, seconds / 4, 10 * seconds, 7, {"pack": seconds / 2}) for seconds in (4, 1, 2)
    ]
    found = json.loads(json.dumps(medians(costs)))
    assert (found["seconds"], found["peak_bytes"], found["written_bytes"]) == (2, 40, 7)
    assert found["cpu_seconds"] == 0.5
    assert found["steps"] == {"pack": 1.0}
    assert found["all_seconds"] == [4, 1, 2]


def test_every_row_has_a_variant_without_page_cache():
    warm = [name for name, row in compare.COMPARISONS.items() if not row.cold]
    assert [f"{name}_cold" for name in warm] == [
        name for name, row in compare.COMPARISONS.items() if row.cold
    ]
