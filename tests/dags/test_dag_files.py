"""What holds for every DAG file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT

from imagenet_etl.config import BOUNDS, Settings
from imagenet_etl.datasets import TINY_IMAGENET

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
    assert "tiny_imagenet" in dag_ids
    assert heavy == [], "heavy modules wait until a task runs"


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_dag_file_reads_as_a_table_of_contents(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.airflow
def test_schedule_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from imagenet_operators.dag import schedule

    assert schedule(TINY_IMAGENET) is None
    monkeypatch.setenv("IMAGENET_SCHEDULE_TINY_IMAGENET", "@weekly")
    assert schedule(TINY_IMAGENET) == "@weekly"


@pytest.mark.airflow
def test_form_and_library_agree_on_defaults_and_bounds(tmp_path: Path) -> None:
    from imagenet_operators.form import form

    params = form(TINY_IMAGENET)
    settings = Settings("tiny_imagenet", str(tmp_path))
    for name, (low, high) in BOUNDS.items():
        schema = params[name].schema
        assert (schema["minimum"], schema["maximum"]) == (low, high)
    for name, param in params.items():
        if name not in ("source", "data_dir"):
            value = getattr(settings, name)
            assert param.value == (list(value) if isinstance(value, tuple) else value), name


@pytest.mark.airflow
def test_form_shows_unit_default_section_and_terms() -> None:
    from imagenet_operators.form import form

    params = form(TINY_IMAGENET)
    assert TINY_IMAGENET.terms_url in params["source"].schema["description_md"]
    for param in params.values():
        assert param.schema["section"]
        assert param.schema["title"]
        assert param.schema["description_md"]
