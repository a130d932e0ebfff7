"""What holds for every DAG file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.support.ilsvrc import DEVKIT, TRAIN

from imagenet_etl.config import BOUNDS, Settings
from imagenet_etl.datasets import (
    DATASETS,
    ILSVRC2012,
    IMAGENET_FALL11,
    TINY_IMAGENET,
    DatasetFacts,
)
from imagenet_etl.errors import ConfigError

DAG_FILES = sorted((ROOT / "dags").glob("*.py"))

# Any attempt to reach a network or a database must fail the import.
_IMPORT_ALL = """
import json, socket, sys
def refuse(*_, **__):
    raise OSError("no network while DAGs are parsed")
socket.socket.connect = socket.getaddrinfo = refuse
from airflow.dag_processing.dagbag import DagBag
DagBag(sys.argv[2])
airflows_own = set(sys.modules)
bag = DagBag(sys.argv[1])
heavy = {"pyarrow", "PIL", "boto3", "botocore", "httpx"} & (set(sys.modules) - airflows_own)
print(json.dumps([bag.import_errors, sorted(bag.dags), sorted(heavy)]))
"""


@pytest.mark.airflow
def test_dags_parse_without_network_aws_or_data(tmp_path: Path) -> None:
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'none.db'}",
    }
    result = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, str(ROOT / "dags"), str(tmp_path)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    errors, dag_ids, heavy = json.loads(result.stdout.splitlines()[-1])
    assert errors == {}
    assert len(dag_ids) == len(set(dag_ids)) == len(DAG_FILES)
    assert {"tiny_imagenet", "ilsvrc2012", "imagenet_fall11"} <= set(dag_ids)
    assert heavy == [], "heavy modules wait until a task runs"


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_dag_file_reads_as_a_table_of_contents(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.airflow
def test_each_task_has_a_queue_by_its_kind() -> None:
    from airflow.dag_processing.dagbag import DagBag

    calls = {"download", "back_up_to_s3", "snapshot_ebs", "copy_snapshot", "share_snapshot",
             "publish", "prune"}  # fmt: skip
    dags = DagBag(str(ROOT / "dags")).dags.values()
    assert len(dags) == len(DAG_FILES)
    for dag in dags:
        for task in dag.tasks:
            is_network = dag.dag_id == "deploy_dataset" or task.task_id in calls
            assert task.queue == ("network" if is_network else "cpu"), task
            assert task.retry_delay.total_seconds() == 30


def test_site_gives_queues_other_names_and_retries_another_delay() -> None:
    ours = {"IMAGENET_QUEUE_NETWORK": "slow", "IMAGENET_QUEUE_CPU": "default",
            "IMAGENET_RETRY_DELAY_S": "2.5"}  # fmt: skip
    code = """
from imagenet_operators.dag import CALLING, FETCHING, PACKING, RETRIES, WHOLE
print([kind["queue"] for kind in (CALLING, FETCHING, PACKING, WHOLE)], RETRIES["retry_delay"])
"""
    path = os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ours | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    expected = "['slow', 'slow', 'default', 'default'] 0:00:02.500000"
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.airflow
def test_schedule_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from imagenet_operators.dag import schedule

    assert schedule(TINY_IMAGENET) is None
    monkeypatch.setenv("IMAGENET_SCHEDULE_TINY_IMAGENET", "@weekly")
    assert schedule(TINY_IMAGENET) == "@weekly"


@pytest.mark.airflow
@pytest.mark.parametrize("facts", DATASETS.values(), ids=DATASETS)
def test_form_and_library_agree_on_defaults_and_bounds(tmp_path: Path, facts: DatasetFacts) -> None:
    from imagenet_operators.form import form

    params = form(facts)
    settings = Settings(facts.name, str(tmp_path))
    special = {"min_images_per_class", "val_images_per_class", "max_bad_classes"}
    assert BOUNDS.keys() - params.keys() == (set() if facts.releases else special)
    for name in BOUNDS.keys() & params.keys():
        schema = params[name].schema
        assert (schema["minimum"], schema["maximum"]) == BOUNDS[name]
    for name, param in params.items():
        if not name.startswith("source") and name not in ("data_dir", "splits", "release"):
            value = facts.defaults.get(name, getattr(settings, name))
            assert param.value == (list(value) if isinstance(value, tuple) else value), name


@pytest.mark.airflow
@pytest.mark.parametrize("facts", DATASETS.values(), ids=DATASETS)
def test_form_left_as_it_is_gives_the_librarys_defaults(
    facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagenet_operators.form import form
    from imagenet_operators.run_settings import resolve

    for name in ("DATA_DIR", "S3_URI", "EBS_VOLUME_ID"):
        monkeypatch.setenv(f"AIRFLOW_VAR_IMAGENET_{name}", "/data" if name == "DATA_DIR" else "")
    params = {name: param.value for name, param in form(facts).items()}
    assert resolve(facts.name, params) == Settings(facts.name, "/data", **facts.defaults)


@pytest.mark.airflow
@pytest.mark.parametrize("facts", DATASETS.values(), ids=DATASETS)
def test_form_shows_unit_default_section_and_terms(facts: DatasetFacts) -> None:
    from imagenet_operators.form import form

    params = form(facts)
    assert facts.terms_url in params["source"].schema["description_md"]
    for param in params.values():
        # The browser's form takes an empty text for a missing one.
        assert param.value != "" or "null" in param.schema["type"]
        assert param.schema["section"]
        assert param.schema["title"]
        assert param.schema["description_md"]


@pytest.mark.airflow
def test_form_of_ilsvrc2012_asks_for_what_that_set_needs() -> None:
    from imagenet_operators.form import form

    params = form(ILSVRC2012)
    sources = {name for name in params if name.startswith("source")}
    assert sources == {"source", "source_train", "source_val", "source_devkit"}
    assert params["splits"].schema["enum"] == ["all", "train", "val"]
    assert params["label_order"].schema["enum"] == ["wnid", "devkit"]
    assert {"allow_loose_files", "hardlink", "keep_archives"} <= params.keys()


@pytest.mark.airflow
def test_form_of_full_imagenet_has_the_published_rule_and_both_releases() -> None:
    from imagenet_operators.form import form
    from imagenet_operators.run_settings import dataset_of

    params = form(IMAGENET_FALL11)
    assert params["release"].schema["enum"] == ["fall11", "winter21"]
    assert params["min_images_per_class"].value == 501
    assert params["val_images_per_class"].value == 50
    assert dataset_of("imagenet_fall11", {"release": "winter21"}) == "imagenet_winter21"
    assert dataset_of("imagenet_fall11", {}) == "imagenet_fall11"
    assert dataset_of("tiny_imagenet", {"release": "winter21"}) == "tiny_imagenet"
    with pytest.raises(ConfigError, match="release 'spring99': expected fall11 or winter21"):
        dataset_of("imagenet_fall11", {"release": "spring99"})


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("params", "sources"),
    [
        ({"source": "/archives"}, {"ILSVRC2012": "/archives"}),
        ({"source": f"/a/{TRAIN}"}, {TRAIN: f"/a/{TRAIN}"}),
        (
            {"source_train": "/t", "source_devkit": "s3://bucket/kit.tar.gz"},
            {TRAIN: "/t", DEVKIT: "s3://bucket/kit.tar.gz"},
        ),
    ],
)
def test_form_takes_one_place_for_everything_or_one_for_each_archive(
    params: dict[str, str], sources: dict[str, str]
) -> None:
    from imagenet_operators.form import form
    from imagenet_operators.run_settings import resolve

    values = {name: param.value for name, param in form(ILSVRC2012).items()}
    assert resolve("ilsvrc2012", values | params | {"data_dir": "/data"}).sources == sources


@pytest.mark.airflow
def test_a_run_without_a_source_takes_the_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    from imagenet_operators.form import form
    from imagenet_operators.run_settings import resolve

    values = {name: param.value for name, param in form(IMAGENET_FALL11).items()}
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_SOURCE_IMAGENET_FALL11", "/archives/tars")
    archive = "fall11_whole.tar"
    assert resolve("imagenet_fall11", values).sources == {archive: "/archives/tars"}
    asked = resolve("imagenet_fall11", values | {"source": "/else"}).sources
    assert asked == {archive: "/else"}
    assert resolve("imagenet_winter21", values).sources == {}
    monkeypatch.setenv("AIRFLOW_VAR_IMAGENET_SOURCE_IMAGENET_FALL11", "https://x.example/a?key=k")
    with pytest.raises(ConfigError, match="a user, a password, a query"):
        resolve("imagenet_fall11", values)


@pytest.mark.airflow
@pytest.mark.parametrize("field", ["source", "source_val"])
@pytest.mark.parametrize(
    "url",
    ["https://x.example/a?key=canary", "https://u:canary@x.example/a", "https://x.example/a;k=canary",
     "https://u:can/ary@x.example/a", "https://x.example/a#token=canary", "http://[canary"],
)  # fmt: skip
def test_form_refuses_a_url_with_a_secret_without_showing_it(field: str, url: str) -> None:
    from imagenet_operators.form import form
    from imagenet_operators.run_settings import resolve

    values = {name: param.value for name, param in form(ILSVRC2012).items()}
    with pytest.raises(ConfigError) as caught:
        resolve("ilsvrc2012", values | {field: url})
    assert "canary" not in str(caught.value)
    assert "ary" not in str(caught.value).replace("necessary", "")
