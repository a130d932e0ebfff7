"""The library is pure: it knows nothing of Airflow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.support import children

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules["airflow"] = None
sys.modules["airflow.sdk"] = None
import imagenet_etl
names = [
    module.name
    for module in pkgutil.walk_packages(imagenet_etl.__path__, "imagenet_etl.")
    if not module.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=children.environment()
    )


def test_every_module_imports_without_airflow():
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_a_module_that_imports_airflow_would_be_found(tmp_path, monkeypatch):
    package = tmp_path / "imagenet_etl"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "impure.py").write_text("import airflow\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    done = run(IMPORT_ALL)
    assert done.returncode != 0
    assert "airflow" in done.stderr


@pytest.mark.parametrize("module", ["imagenet_etl.config", "imagenet_etl.datasets"])
def test_what_dag_files_import_is_light(module):
    heavy = "pyarrow PIL boto3 botocore httpx rich numpy"
    code = f"import sys, {module}; print(*(set('{heavy}'.split()) & set(sys.modules)))"
    assert run(code).stdout.split() == []
