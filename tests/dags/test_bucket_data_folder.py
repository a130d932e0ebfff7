"""The DAG with nothing but a bucket: from the publisher's server to records, no data on a disk."""

import json
import tempfile
from pathlib import Path

import pytest
from tests.dags.conftest import BUCKET, SIZE, Site

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

NO_COPIES = {"s3_uri": "none", "ebs_volume_id": "none"}


@pytest.fixture
def in_bucket(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", f"s3://{BUCKET}/data")
    site.conf |= NO_COPIES | {"formats": ["recordio"], "workers": 1}
    return site


def test_everything_is_in_the_bucket_and_nothing_on_disk(in_bucket: Site, tmp_path: Path) -> None:
    run = in_bucket.run(version="v1")
    assert run.state == "success"
    keys = {key for key in in_bucket.objects() if not key.startswith("data/work/")}
    assert "data/datasets/tiny_imagenet/v1/manifest.json" in keys
    body = in_bucket.moto.client("s3").get_object(
        Bucket=BUCKET, Key="data/datasets/tiny_imagenet/registry.json"
    )["Body"]
    entry = json.load(body)["versions"]["v1"]
    assert entry["counts"]["packed"] == SIZE.classes * (SIZE.train + SIZE.val)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not in_bucket.data_dir.exists()
