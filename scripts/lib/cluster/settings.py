"""The environment of the cluster's processes: that of the Compose file, and what differs here."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
COMPOSE = ROOT / "compose/airflow.env"
SETTINGS, IMPATIENT = HERE / "settings.env", HERE / "impatient.env"


def new_secrets() -> dict[str, str]:
    """Return values for the secrets that ``settings.env`` asks for."""
    return {
        "FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "JWT_SECRET": secrets.token_urlsafe(48),
        "API_SECRET": secrets.token_urlsafe(32),
    }


def read_env(file: Path, values: dict[str, str]) -> dict[str, str]:
    """Return the variables of a file, each ``${NAME}`` replaced.

    Raises:
        KeyError: A name has no value.
        ValueError: A line is neither empty, a comment, nor ``KEY=VALUE``.
    """
    found = {}
    for line in file.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, is_setting, value = line.partition("=")
        if not is_setting:
            raise ValueError(f"{file.name}: {line!r} is not KEY=VALUE")
        found[name] = Template(value).substitute(values)
    return found


def environment(files: list[Path], values: dict[str, str]) -> dict[str, str]:
    """Return a whole environment: the caller's, without its Airflow, and what the files say.

    Connections and Variables pass, since that is how a bucket's credentials are given. The caller's
    ``IMAGENET_*`` do not: queues of other names would leave every task without a worker.
    """
    passing = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
    caller = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "IMAGENET_")) or name.startswith(passing)
    }
    for file in files:
        caller |= read_env(file, values)
    return caller
