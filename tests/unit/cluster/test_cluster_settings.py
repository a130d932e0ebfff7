"""The settings of ``scripts/cluster``: Compose's, but for the places and a test's patience."""

import string
from pathlib import Path

import pytest
from cluster.processes import free_port
from cluster.settings import COMPOSE, IMPATIENT, SETTINGS, environment, new_secrets, read_env
from tests.unit.deployment.deployed import unknown_settings

PLACES = {"ROOT": "/project", "HOME": "/home", "DATA": "/data", "API_PORT": "1", "POSTGRES": "p",
          "REDIS": "r"}  # fmt: skip


def names(file: Path) -> list[str]:
    return list(read_env(file, PLACES | new_secrets()))


@pytest.mark.parametrize("file", [SETTINGS, IMPATIENT], ids=lambda file: file.name)
def test_airflow_knows_every_setting(file: Path) -> None:
    assert unknown_settings([name for name in names(file) if name.startswith("AIRFLOW__")]) == []


def test_every_placeholder_is_filled_in_and_every_value_used() -> None:
    asked = string.Template(SETTINGS.read_text()).get_identifiers()
    assert sorted(set(asked) - {"NAME"}) == sorted(PLACES | new_secrets())


def test_the_patience_of_long_runs_is_that_of_compose() -> None:
    """Only ``--test`` is more impatient, so what it proves holds for Compose's other settings."""
    whole = environment([COMPOSE, SETTINGS], PLACES | new_secrets())
    compose = read_env(COMPOSE, {})
    places = set(names(SETTINGS))
    assert {name: whole[name] for name in compose if name not in places} == {
        name: value for name, value in compose.items() if name not in places
    }
    long_runs = ("CELERY", "WORKERS", "EXECUTION_API", "CELERY_BROKER_TRANSPORT_OPTIONS")
    changed = {name.split("__")[1] for name in places & set(compose) if "__" in name}
    assert changed.isdisjoint(long_runs)


def test_secrets_are_new_each_time() -> None:
    assert not set(new_secrets().values()) & set(new_secrets().values())


def test_the_callers_airflow_stays_outside_but_its_connections_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "{}")
    monkeypatch.setenv("IMAGENET_QUEUE_CPU", "one that no worker serves")
    whole = environment([COMPOSE, SETTINGS], PLACES | new_secrets())
    assert whole["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert whole["AIRFLOW_CONN_AWS_DEFAULT"] == "{}"
    assert [name for name in whole if name.startswith("IMAGENET_")] == []


def test_a_line_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.env"
    file.write_text("A=1\nnonsense\n")
    with pytest.raises(ValueError, match="nonsense"):
        read_env(file, {})


def test_a_port_is_none_that_the_kernel_gives_away_meanwhile() -> None:
    """It is bound half a minute later, and again after a restart."""
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    first, last = map(int, ports)
    if first <= 10_000:
        pytest.skip("the kernel gives away all of them")
    assert not [port for port in (free_port() for _ in range(50)) if first <= port <= last]
