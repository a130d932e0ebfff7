"""The task that ends a run, and the one before it that no longer does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowSkipException
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.build import freeze_settings
from imagenet_etl.config import Settings
from imagenet_etl.datastore.copies import Copy
from imagenet_etl.datastore.prune_report import PruneReport
from imagenet_etl.errors import CloudError, NothingToDo
from imagenet_etl.publishing import prune_old_versions, publish_version
from imagenet_etl.storage import LocalStorage
from imagenet_operators.prune import PruneOperator
from imagenet_operators.publish import PublishOperator

pytestmark = pytest.mark.airflow
DATASET = "tiny_imagenet"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A data folder with three versions, v1 the oldest."""
    archive = tiny_zip(tmp_path)
    for version in ("v1", "v2", "v3"):
        build = build_of(tmp_path, archive, version=version)
        run_stages(build)
        publish_version(build)
        build.storage.close_staging()
    return Path(build.settings.data_dir)


def versions(data: Path) -> list[str]:
    return sorted(path.parent.name for path in data.glob(f"datasets/{DATASET}/*/manifest.json"))


def run_prune(data: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_DATA_DIR", str(data))
    chosen = Settings(dataset=DATASET, data_dir=str(data), version="v3", **settings)
    run = f"manual-{settings}"
    freeze_settings(LocalStorage(data), DATASET, f"{DATASET}:{run}", lambda: chosen)
    context = {
        "dag": SimpleNamespace(dag_id=DATASET),
        "run_id": run,
        "params": {},
        "ti": SimpleNamespace(map_index=-1, try_number=1, max_tries=3),
    }
    return PruneOperator(task_id="prune", dataset=DATASET).execute(context)  # type: ignore[arg-type]


def test_old_versions_are_told_then_removed_then_nothing_is_left_to_do(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowSkipException, match="keep_versions is 0"):
        run_prune(published, monkeypatch)
    told = run_prune(published, monkeypatch, keep_versions=1)
    assert told["would_remove"] == ["v2", "v1"]
    assert versions(published) == ["v1", "v2", "v3"]
    told = run_prune(published, monkeypatch, keep_versions=2, prune=True)
    assert (told["removed"], told["troubles"]) == (["v1"], [])
    assert versions(published) == ["v2", "v3"]
    with pytest.raises(AirflowSkipException, match="No version is older"):
        run_prune(published, monkeypatch, keep_versions=2)


def test_removal_that_is_held_up_is_no_skip(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = CloudError("snapshot snap-1 is in use and stays")
    folder = Copy("v1", "folder", "/data/v1", 1000)
    report = PruneReport(True, (), (folder,), {"v1": "in use"}, (trouble,))
    monkeypatch.setattr("imagenet_etl.publishing.prune_old_versions", lambda _: report)
    told = run_prune(published, monkeypatch, keep_versions=1, prune=True)
    assert (told["removed"], told["usd_a_month"]) == ([], 0)
    assert "snap-1 is in use" in told["troubles"][0]


def test_version_of_the_run_stays(tmp_path: Path, published: Path) -> None:
    chosen: dict[str, Any] = {"keep_versions": 1, "prune": True}
    build = build_of(tmp_path, tmp_path / "tiny-imagenet-200.zip", version="v1", **chosen)
    report = prune_old_versions(build)
    assert report.kept["v1"] == "it is this run's"
    assert report.versions == ("v2",)
    with pytest.raises(NothingToDo):
        prune_old_versions(build_of(tmp_path, tmp_path / "tiny-imagenet-200.zip", version="v1"))


def test_the_last_task_gives_the_lock_back() -> None:
    with DAG("x", schedule=None):
        alone = PublishOperator(task_id="alone", dataset=DATASET, asset=Asset("a"))
        publish = PublishOperator(task_id="publish", dataset=DATASET, asset=Asset("a"))
        prune = PruneOperator(task_id="prune", dataset=DATASET)
        publish >> prune
    assert alone.is_last
    assert not publish.is_last
    assert prune.is_last
