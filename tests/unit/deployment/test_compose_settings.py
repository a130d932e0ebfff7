"""What docker-compose.yaml and its env files tell Airflow, and how secrets come in."""

import re

from tests.unit.deployment.deployed import (
    ENV_FILES,
    ROOT,
    compose,
    environment_of,
    python_sources,
    read_env,
    references,
    services,
    unknown_settings,
)

EXAMPLE = ROOT / ".env.example"
PROVIDED_BY_COMPOSE = {"COMPOSE_PROFILES"}


def test_every_setting_is_one_that_airflow_knows() -> None:
    names = [name for one in services().values() for name in environment_of(one)]
    assert len({name for name in names if name.startswith("AIRFLOW__")}) > 30
    assert unknown_settings(names) == []
    assert unknown_settings(["AIRFLOW__CELERY__WORKER_PREFETCH"]) != []


def test_every_variable_stands_in_the_example_and_the_other_way_round() -> None:
    used = {name for name, _, _ in references(compose())}
    passed_on = {name for one in services().values() for name, value in
                 one.get("environment", {}).items() if value is None}  # fmt: skip
    assert set(read_env(EXAMPLE, commented=True)) == used | passed_on


def test_the_example_says_the_defaults_of_the_compose_file() -> None:
    example = read_env(EXAMPLE)
    defaults = {name: text for name, sign, text in references(compose()) if sign == ":-"}
    assert {name: example[name] for name in defaults if name in example} == {
        name: text for name, text in defaults.items() if name in example
    }


def test_secrets_are_asked_for_and_have_no_value_of_their_own() -> None:
    asked = {name for name, sign, _ in references(compose()) if sign == ":?"}
    assert asked == {
        "POSTGRES_PASSWORD", "REDIS_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY",
        "AIRFLOW_FERNET_KEY", "AIRFLOW_ADMIN_PASSWORD",
    }  # fmt: skip
    assert {sign for name, sign, _ in references(compose()) if name in asked} == {":?"}
    assert {read_env(EXAMPLE)[name] for name in asked} == {""}


def test_no_setting_that_airflow_calls_sensitive_is_written_down() -> None:
    from airflow.configuration import retrieve_configuration_description

    described = retrieve_configuration_description(include_providers=True)
    sensitive = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, content in described.items()
        for option, about in content["options"].items()
        if about.get("sensitive")
    }
    assert sensitive & read_env(ENV_FILES["airflow"]).keys() == set()
    for one in services().values():
        for name in sensitive & one.get("environment", {}).keys():
            assert ":?" in one["environment"][name]


def test_no_secret_stands_in_a_command() -> None:
    commands = [one.get("command", []) for one in services().values()]
    commands += [one.get("healthcheck", {}).get("test", []) for one in services().values()]
    assert {name for name, _, _ in references(commands)} <= {"WORKER_CONCURRENCY"}


def test_every_variable_of_the_project_is_one_that_it_reads() -> None:
    from imagenet_etl.datasets import facts_of

    operators = "".join(python_sources("plugins", "dags").values())
    read = {f"AIRFLOW_VAR_IMAGENET_{name.upper()}" for name in
            re.findall(r'site_value\(params, "(\w+)"\)', operators)}  # fmt: skip
    for name in ("tiny_imagenet", "ilsvrc2012", "imagenet_fall11"):
        read.add(f"IMAGENET_SCHEDULE_{facts_of(name).name.upper()}")
    read |= set(re.findall(r'environ\.get\("(IMAGENET_\w+)"', operators))
    given = {name for name in services()["worker"]["environment"] if "IMAGENET" in name}
    assert given - {"AIRFLOW_CONN_IMAGENET_DEFAULT"} - read == set()
    assert len(given) > 5


def test_long_runs_fit_into_what_the_broker_waits() -> None:
    from imagenet_operators.dag import FETCHING, WHOLE

    settings = read_env(ENV_FILES["airflow"])
    waits = int(settings["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    for kind in (FETCHING, WHOLE):
        assert kind["execution_timeout"].total_seconds() < waits


def test_local_aws_is_pointed_at_its_own_service_with_made_up_keys() -> None:
    local = read_env(ENV_FILES["local-aws"])
    used = {name for name, _, _ in references(compose())}
    used |= services()["aws-init"]["environment"].keys()
    assert local.keys() - PROVIDED_BY_COMPOSE <= used
    assert local["COMPOSE_PROFILES"] == "local-aws"
    host = local["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")[0]
    assert services()[host]["profiles"] == ["local-aws"]
    assert local["AWS_SECRET_ACCESS_KEY"] == "local"
    assert local["IMAGENET_S3_URI"].startswith(f"s3://{local['LOCAL_AWS_BUCKET']}/")


def test_the_cluster_of_the_tests_runs_with_the_same_settings() -> None:
    cluster = ROOT / "scripts" / "lib" / "cluster"
    assert "compose/airflow.env" in (cluster / "settings.py").read_text()
    ours, changed = read_env(ENV_FILES["airflow"]), read_env(cluster / "settings.env")
    # Places and ports alone, and a port that several schedulers on one machine would fight for.
    assert ours.keys() & changed.keys() <= {
        "AIRFLOW__API__PORT",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
    }
