"""What the deployment's files say, and what Airflow knows, for the tests of this folder."""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yaml"
ENV_FILES = {name: ROOT / "compose" / f"{name}.env" for name in ("airflow", "local-aws")}
KUBERNETES = ROOT / "docs" / "kubernetes"

_SETTING = re.compile(r"AIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)")
_REFERENCE = re.compile(r"(?<!\$)\$\{([A-Z0-9_]+)(?:(:?[-?])([^}]*))?\}")


def compose() -> dict[str, Any]:
    """Return docker-compose.yaml with its anchors resolved."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    """Return the services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def environment_of(service: dict[str, Any]) -> dict[str, str | None]:
    """Return a service's variables: of its file, and its own before them."""
    files = service.get("env_file") or []
    given: dict[str, str | None] = {}
    for file in [files] if isinstance(files, str) else files:
        given |= read_env(ROOT / file)
    return given | service.get("environment", {})


def read_env(path: Path, *, commented: bool = False) -> dict[str, str]:
    """Return the variables of an env file, also those that are commented out if asked for."""
    sign = "#?" if commented else ""
    lines = re.findall(rf"^{sign}([A-Z][A-Z0-9_]*)=(.*)$", path.read_text(), re.M)
    return {name: value.strip("'") for name, value in lines}


def references(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, operator and default or message of each ``${NAME}`` in a tree of values."""
    if isinstance(value, dict):
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)
    elif isinstance(value, str):
        yield from _REFERENCE.findall(value)


def defaulted(value: str) -> str:
    """Return a value as it is when nothing is set."""
    return _REFERENCE.sub(lambda found: found[3] if found[2] == ":-" else "", value)


@functools.cache
def known_options() -> frozenset[tuple[str, str]]:
    """Return section and option of everything that Airflow and its providers can be told."""
    from airflow.configuration import retrieve_configuration_description

    described = retrieve_configuration_description(include_providers=True)
    return frozenset(
        (section.upper(), option.upper())
        for section, content in described.items()
        for option in content["options"]
    )


def unknown_settings(names: list[str]) -> list[str]:
    """Return the ``AIRFLOW__SECTION__KEY`` that Airflow does not know."""
    settings = [name for name in names if name.startswith("AIRFLOW__")]
    matches = {name: _SETTING.fullmatch(name) for name in settings}
    return [n for n, match in matches.items() if not match or match.groups() not in known_options()]


def airflow_command_exists(words: list[str]) -> bool:
    """Tell whether Airflow's own parser takes a command line."""
    from airflow.cli import cli_parser

    try:
        _parser(cli_parser).parse_args(words)
    except SystemExit:
        return False
    return True


@functools.cache
def _parser(cli_parser: Any) -> Any:
    return cli_parser.get_parser()


def python_sources(*folders: str) -> dict[str, str]:
    """Return the text of Python files below folders of the project, by path."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found[os.fspath(path.relative_to(ROOT))] = path.read_text()
    return found
