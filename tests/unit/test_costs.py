"""What is left behind, in GB and USD."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagenet_etl import costs
from imagenet_etl.config import STORAGE_CLASSES, Settings
from imagenet_etl.costs import cost_note, left_behind, volume_usd_a_month
from imagenet_etl.datasets import DATASETS


def settings(**chosen) -> Settings:
    return Settings(dataset="ilsvrc2012", data_dir="/data", **chosen)


def test_backup_is_priced_by_its_class():
    lines = left_behind(140 * 10**9, settings(s3_uri="s3://bucket", s3_storage_class="STANDARD_IA"))
    assert lines[0] == "leaves S3 STANDARD_IA: 140 GB, about 1.75 USD a month"
    assert "estimates" in lines[-1]


def test_archives_count_where_they_are_backed_up():
    both = settings(s3_uri="s3://bucket", back_up=("dataset", "archives"))
    assert left_behind(10**11, both, 10**11)[0].startswith(
        "leaves S3 STANDARD: 200 GB, about 4.60 USD"
    )
    archives = settings(s3_uri="s3://bucket", back_up=("archives",))
    assert left_behind(10**11, archives, 10**10)[0].startswith(
        "leaves S3 STANDARD: 10 GB, about 0.23 USD"
    )


def test_first_snapshot_and_its_copies_are_priced_with_the_archives_on_the_volume():
    chosen = settings(ebs_volume_id="vol-01234567", snapshot_regions=("eu-west-1",))
    lines = left_behind(10**11, chosen, archives_on_volume=2 * 10**11)
    assert lines[0].startswith("leaves EBS snapshot: about 300 GB, about 15.00 USD a month, if")
    assert "the version and 200 GB of archives" in lines[0]
    assert lines[1].startswith("leaves EBS snapshot in eu-west-1: about 300 GB, about 15.00 USD a")
    assert "once about 6.00 USD" in lines[1]
    assert "at most" not in "".join(lines), "nobody knows what else lies on the volume"


def test_archives_elsewhere_are_in_no_snapshot():
    lines = left_behind(10**11, settings(ebs_volume_id="vol-01234567"), archive_bytes=10**11)
    assert lines[0].startswith("leaves EBS snapshot: about 100 GB, about 5.00 USD a month, if")
    assert "archives" not in lines[0]


def test_nothing_in_the_cloud_costs_nothing():
    assert left_behind(10**11, settings()) == []


def test_little_data_is_told_as_little():
    assert left_behind(5_000_000, settings(s3_uri="s3://bucket"))[0] == (
        "leaves S3 STANDARD: 0.005 GB, less than a cent a month"
    )


def test_every_storage_class_has_a_price():
    assert set(costs.S3_GB_MONTH) == set(STORAGE_CLASSES)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_note_for_the_form_is_one_line(name):
    note = cost_note(DATASETS[name])
    assert "\n" not in note
    assert "in STANDARD_IA" in note
    assert "about 0 GB" not in note


def rows_of_the_page() -> dict[str, list[float]]:
    """Return the numbers in the table of examples of docs/costs.md, by the row's name."""
    text = (Path(__file__).resolve().parents[2] / "docs/costs.md").read_text()
    lines = text.partition("## Examples")[2].partition("## What")[0].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]
    return {
        name.strip(): [float(cell.replace("GB", "").replace(",", "")) for cell in values]
        for name, *values in cells
    }


@pytest.mark.parametrize(
    ("column", "name"), enumerate(("tiny_imagenet", "ilsvrc2012", "imagenet_fall11"))
)
def test_page_and_form_tell_the_same_prices(column, name):
    facts, rows = DATASETS[name], rows_of_the_page()
    size = sum(archive.size or archive.about_bytes for archive in facts.archives)
    expected = {
        "Size, and that of the archives": size / 1e9,
        "Backup in `STANDARD`, a month": costs.s3_usd_a_month(size, "STANDARD"),
        "Backup in `STANDARD_IA`, a month": costs.s3_usd_a_month(size, "STANDARD_IA"),
        "First snapshot, the archives on the volume, a month": costs.snapshot_usd_a_month(2 * size),
        "First snapshot, the archives elsewhere, a month": costs.snapshot_usd_a_month(size),
        "Copy of the former to another region, once": 2 * size / 1e9 * costs.TRANSFER_GB,
        "A gp3 volume of twice the size, a month": 2 * size / 1e9 * costs.GP3_GB_MONTH,
    }
    assert list(rows) == list(expected)
    for row, value in expected.items():
        assert rows[row][column] == pytest.approx(value, abs=0.5 if "Size" in row else 0.0051), row
    note = cost_note(facts)
    for row, values in rows.items():
        if values[column] >= 0.02 and ("Backup" in row or "First" in row):
            assert f"about {values[column]:,.2f} USD" in note


def test_volume_is_billed_for_what_is_more_than_free():
    assert volume_usd_a_month(100) == volume_usd_a_month(100, 3000, 125) == pytest.approx(8)
    assert volume_usd_a_month(100, 4000, 225) == pytest.approx(8 + 5 + 4)
