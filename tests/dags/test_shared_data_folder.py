"""A cluster's data folder: marked it is used, unmarked the run ends with its first task."""

import pytest
from tests.dags.conftest import Site

from imagenet_etl.shared_folder import MARK, share_folder

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

LOCAL = {"formats": ["recordio"], "s3_uri": "none", "ebs_volume_id": "none"}


@pytest.fixture
def cluster(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    # dag.test() runs tasks in this process all the same.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    return site


def test_unmarked_folder_ends_the_run_at_once_and_stays_unmade(cluster: Site) -> None:
    run = cluster.run(**LOCAL)
    assert run.tasks.pop("download") == "failed"
    assert run.states() == {"upstream_failed"}
    assert not cluster.data_dir.exists()


def test_marked_folder_takes_a_version(cluster: Site) -> None:
    share_folder(cluster.data_dir)
    run = cluster.run(**LOCAL)
    assert run.state == "success"
    assert run.done() >= {"download", "verify", "publish"}
    assert (cluster.version() / "manifest.json").exists()
    assert (cluster.data_dir / MARK).exists()
