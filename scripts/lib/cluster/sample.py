"""What the proofs run on: sample archives, a form, and what ``dag.test()`` makes of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.processes import ClusterError, Start, end_of, start
from cluster.settings import COMPOSE, ROOT, SETTINGS, environment, new_secrets

DAG = "ilsvrc2012"
VERSION = "v1"
_REFERENCE_S = 300.0
ARCHIVES = {
    "train": "ILSVRC2012_img_train.tar",
    "val": "ILSVRC2012_img_val.tar",
    "devkit": "ILSVRC2012_devkit_t12.tar.gz",
}


def build_archives(folder: Path, classes: int = 20, train: int = 150) -> None:
    """Build sample archives of generated images: the same ones everywhere.

    Raises:
        ClusterError: They could not be built.
    """
    command = [sys.executable, "-m", "imagenet_etl", "sample", DAG, "--out", str(folder),
               "--classes", str(classes), "--train", str(train), "--val", "5"]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise ClusterError(f"{' '.join(command)} failed:\n{made.stderr}")


def conf_of(archives: Path, data: Path, **values: Any) -> dict[str, Any]:
    """Return the form's values of a run: enlarging images gives packing something to do.

    Its 61 segments are packed in four groups, and each group's task has two packing processes.
    """
    sources = {f"source_{role}": str(archives / name) for role, name in ARCHIVES.items()}
    return sources | {
        "data_dir": str(data), "version": VERSION, "expect": "any", "resize": "short_edge:1024",
        "upscale": True, "shards": 60, "workers": 2,
    } | values  # fmt: skip


def files_of(data: Path) -> dict[str, str]:
    """Return the digest of every file of the published version by its name."""
    version = data / "datasets" / DAG / VERSION
    return {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(version.rglob("*"))
        if path.is_file()
    }


def versions_of(data: Path) -> list[str]:
    """Return the versions that are in the registry."""
    registry = json.loads((data / "datasets" / DAG / "registry.json").read_text())
    return list(registry["versions"])


class Reference:
    """A run of the same DAG by ``dag.test()`` in one process, on SQLite.

    Args:
        folder: A new folder for its Airflow, data and log.
        conf: The form's values.
    """

    def __init__(self, folder: Path, conf: dict[str, Any]) -> None:
        folder.mkdir()
        self._log = folder / "reference.log"
        values = new_secrets() | {
            "ROOT": str(ROOT), "HOME": str(folder), "DATA": conf["data_dir"], "API_PORT": "0",
            "POSTGRES": "", "REDIS": "",
        }  # fmt: skip
        database = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
                    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}  # fmt: skip
        env = environment([COMPOSE, SETTINGS], values) | database
        script = Path(__file__).parent / "run_by_dag_test.py"
        command: list[str | Path] = [sys.executable, script, DAG, json.dumps(conf)]
        self._process = start(Start(command, self._log, env))

    def wait(self) -> None:
        """Wait until it has ended well.

        Raises:
            ClusterError: It failed.
        """
        if end_of(self._process, "dag.test()", _REFERENCE_S):
            raise ClusterError(f"dag.test() failed ({self._log})")
