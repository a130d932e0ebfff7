"""The Tiny ImageNet DAG, run whole by Airflow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.dags.conftest import BUCKET, SIZE, Site
from tests.support.airflow_runs import asset_events, files_below, forget_xcoms

from imagenet_etl.readers import RecordIoReader
from imagenet_etl.verify import verify_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

LOCAL = ("download", "untar", "restructure_val", "plan_shards", "pack", "verify")
CLOUD = ("back_up_to_s3", "snapshot_ebs")
UNASKED = {"filter_classes", "copy_snapshot", "share_snapshot", "prune"}


def test_run_publishes_files_objects_snapshot_and_event(site: Site) -> None:
    events = len(asset_events())
    run = site.run()
    assert run.state == "success"
    assert set(run.tasks) - run.done() == UNASKED
    version = site.version()
    assert verify_folder(version)["records"] == 2 * SIZE.labelled
    assert len(RecordIoReader(version / "recordio/train/train_00000.rec")) == 24
    assert len(RecordIoReader(version / "recordio/val/val_00000.rec")) == 8
    classes = sorted(path.name for path in (version / "imagefolder/val").iterdir())
    assert classes == [f"n{number:08d}" for number in range(1, 5)]
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["counts"]["left_out_test"] == SIZE.test
    assert "research" in manifest["licence"]
    root = "datasets/tiny_imagenet"
    stored = {f"{root}/{version.name}/{name}" for name in files_below(version)}
    assert site.objects().keys() == stored | {f"{root}/catalog.json"}
    (snapshot,) = site.snapshots()
    tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
    assert tags["imagenet-etl:version"] == version.name
    (event,) = asset_events()[events:]
    assert event["version"] == version.name
    assert event["snapshot_id"] == snapshot["SnapshotId"]
    assert event["s3_uri"] == f"s3://{BUCKET}/datasets/tiny_imagenet/{version.name}"


def test_rerun_with_nothing_changed_skips_everything(site: Site) -> None:
    site.run()
    before = files_below(site.version()), site.objects(), len(site.snapshots())
    events = len(asset_events())
    run = site.run(workers=2)
    assert (run.state, run.states()) == ("success", {"skipped"})
    assert (files_below(site.version()), site.objects(), len(site.snapshots())) == before
    assert len(asset_events()) == events


def test_lost_xcoms_lose_nothing(site: Site) -> None:
    site.run()
    assert forget_xcoms() > 0
    run = site.run(quality=80)
    skipped = {task for task, state in run.tasks.items() if state == "skipped"}
    assert skipped == {"download", "untar", "restructure_val", "plan_shards"} | UNASKED


def test_changed_quality_repeats_only_pack_and_what_follows(site: Site) -> None:
    site.run(resize="short_edge:32")
    run = site.run(resize="short_edge:32", quality=50)
    assert run.done() == {"pack", "verify", "report", *CLOUD, "publish"}


def test_empty_cloud_settings_skip_their_tasks_visibly(site: Site) -> None:
    run = site.run(s3_uri="none", ebs_volume_id="none")
    assert {run.tasks[task] for task in CLOUD} == {"skipped"}
    assert {run.tasks[task] for task in (*LOCAL, "publish")} == {"success"}
    assert (site.objects(), site.snapshots()) == ({}, [])


def test_backup_asked_for_later_backs_up_the_unchanged_dataset_without_an_event(site: Site) -> None:
    site.run(s3_uri="none", ebs_volume_id="none")
    events = len(asset_events())
    run = site.run()
    assert run.done() == set(CLOUD)
    assert len(asset_events()) == events
    registry = json.loads((site.data_dir / "datasets/tiny_imagenet/registry.json").read_text())
    entry = registry["versions"][registry["latest"]]
    assert entry["s3_uri"].startswith(f"s3://{BUCKET}/")
    assert entry["snapshots"]["us-east-1"].startswith("snap-")


def test_snapshot_is_copied_and_shared_and_the_older_version_goes(site: Site) -> None:
    site.run(resize="short_edge:32")
    older = site.version()
    run = site.run(
        snapshot_regions=["eu-central-1"],
        share_with=["210987654321"],
        accept_licence=True,
        keep_versions=1,
        prune=True,
    )
    assert run.state == "success"
    assert {"copy_snapshot", "share_snapshot", "prune"} <= run.done()
    version = site.version()
    assert version != older, "of two versions the newer one stays"
    assert not [key for key in site.objects() if f"/{older.name}/" in key]
    (snapshot,) = site.snapshots()
    registry = json.loads((site.data_dir / "datasets/tiny_imagenet/registry.json").read_text())
    assert registry["versions"].keys() == {version.name}
    snapshots = registry["versions"][version.name]["snapshots"]
    assert snapshots["us-east-1"] == snapshot["SnapshotId"]
    for region, identifier in snapshots.items():
        permissions = site.moto.client("ec2", region).describe_snapshot_attribute(
            SnapshotId=identifier, Attribute="createVolumePermission"
        )["CreateVolumePermissions"]
        assert permissions == [{"UserId": "210987654321"}], region
    assert snapshots.keys() == {"us-east-1", "eu-central-1"}


def test_missing_bucket_fails_at_once_and_keeps_the_dataset(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    run = site.run(s3_uri="s3://no-such-bucket/x")
    assert run.state == "failed"
    assert run.tasks["back_up_to_s3"] == "failed"
    assert run.tasks["publish"] == "upstream_failed"
    assert verify_folder(site.version())["decoded"] > 0
    printed = caplog.text + "".join(capfd.readouterr())
    assert "CloudNotFound" in printed
    assert "s3://no-such-bucket does not exist" in printed


def test_settings_are_frozen_by_the_first_task(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run = site.run()
    (record,) = (site.data_dir / "work/tiny_imagenet/runs").iterdir()
    frozen = json.loads(record.read_text())
    assert frozen["run"] == f"tiny_imagenet:{run.run_id}"
    assert frozen["settings"]["s3_uri"] == f"s3://{BUCKET}/datasets"


def test_secrets_appear_nowhere(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    canary = "canary-4711"
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"]) | {"password": canary}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    refused = site.run(source=f"{site.conf['source']}?key={canary}")
    assert refused.tasks["download"] == "failed"
    assert site.run().state == "success"
    printed = caplog.text + "".join(capfd.readouterr())
    assert canary not in printed
    for path in site.data_dir.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def test_airflow_dags_test_runs_it_from_the_shell(site: Site, tmp_path: Path) -> None:
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "AIRFLOW_VAR_IMAGENET_S3_URI": "none",
        "AIRFLOW_VAR_IMAGENET_EBS_VOLUME_ID": "none",
    }
    airflow = [sys.executable, "-m", "airflow"]
    migrated = subprocess.run(
        [*airflow, "db", "migrate"], env=environment, cwd=ROOT, capture_output=True
    )
    assert migrated.returncode == 0
    result = subprocess.run(
        [*airflow, "dags", "test", "tiny_imagenet", "--conf", json.dumps(site.conf)],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert verify_folder(site.version())["decoded"] > 0
