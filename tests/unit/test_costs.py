"""What is left behind, in GB and USD."""

from __future__ import annotations

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


def test_snapshot_and_its_copies_are_priced_each():
    chosen = settings(ebs_volume_id="vol-01234567", snapshot_regions=("eu-west-1",))
    lines = left_behind(10**11, chosen)
    assert (
        lines[0] == "leaves EBS snapshot: at most 100 GB of changed blocks, about 5.00 USD a month"
    )
    assert "eu-west-1" in lines[1]
    assert "once about 2.00 USD" in lines[1]


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


def test_volume_is_billed_for_what_is_more_than_free():
    assert volume_usd_a_month(100) == volume_usd_a_month(100, 3000, 125) == pytest.approx(8)
    assert volume_usd_a_month(100, 4000, 225) == pytest.approx(8 + 5 + 4)
