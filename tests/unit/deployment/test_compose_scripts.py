"""What the containers of docker-compose.yaml run before Airflow: it runs here, too."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.moto_server import MotoServer
from tests.unit.deployment.deployed import (
    ENV_FILES,
    ROOT,
    airflow_command_exists,
    defaulted,
    read_env,
    services,
)

SCRIPTS = ROOT / "compose"


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def write_passwords(file: Path, password: str) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, str(SCRIPTS / "passwords.py")],
        AIRFLOW_ADMIN_PASSWORD=password,
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="admin:admin, guest:viewer",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(file),
    )


def test_airflow_reads_the_passwords_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    file = tmp_path / "passwords.json"
    assert write_passwords(file, "a long password").returncode == 0
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(file))
    assert SimpleAuthManager.get_passwords() == {
        "admin": "a long password", "guest": "a long password",
    }  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_changed_password_takes_the_place_of_the_old(tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    for password in ("the first of them", "the second of them"):
        assert write_passwords(file, password).returncode == 0
    assert json.loads(file.read_text())["admin"] == "the second of them"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_short_password_is_refused_and_not_told(tmp_path: Path) -> None:
    done = write_passwords(tmp_path / "passwords.json", "hunter2")
    assert done.returncode == 1
    assert "AIRFLOW_ADMIN_PASSWORD has 7 characters" in done.stderr
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_local_aws_gets_a_bucket_and_one_volume(moto: MotoServer) -> None:
    command = [sys.executable, str(SCRIPTS / "local_aws.py")]
    told = [run(command, **moto.environment(), LOCAL_AWS_BUCKET="imagenet-local") for _ in range(2)]
    assert [done.returncode for done in told] == [0, 0], told[0].stderr
    assert told[0].stdout == told[1].stdout
    assert re.fullmatch(r"s3://imagenet-local and vol-\w+ are there\n", told[0].stdout)


@pytest.mark.parametrize(("files", "style"), [([], None), (["local-aws"], "path")])
def test_the_connection_to_aws_gives_a_client(
    files: list[str], style: str | None, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagenet_operators.run_settings import AwsClients

    value = defaulted(services()["worker"]["environment"]["AIRFLOW_CONN_AWS_DEFAULT"])
    for file in files:
        value = read_env(ENV_FILES[file])["AWS_CONNECTION"]
    for name, told in {**moto.environment(), "AIRFLOW_CONN_AWS_DEFAULT": value}.items():
        monkeypatch.setenv(name, told)
    config = AwsClients("aws_default")("s3").meta
    assert config.endpoint_url == moto.url
    assert (config.config.s3 or {}).get("addressing_style") == style


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, str]:
    """Programs that note how they were called, in place of Airflow's and Python."""
    for name in ("airflow", "python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\n')
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {"PATH": path, "NETWORK_SLOTS": "4", "CPU_SLOTS": "3", "calls": f"{tmp_path}/calls"}


def calls_of(recorded: dict[str, str], data_dir: str) -> list[str]:
    calls = Path(recorded.pop("calls"))
    done = run(["sh", str(SCRIPTS / "init.sh")], **recorded, AIRFLOW_VAR_IMAGENET_DATA_DIR=data_dir)
    assert done.returncode == 0, done.stderr
    return calls.read_text().splitlines()


def test_what_init_asks_of_airflow_and_the_library_exists(recorded: dict[str, str]) -> None:
    from imagenet_etl.cli import main

    calls = calls_of(recorded, "/data")
    assert calls[0] == "airflow db migrate"
    for call in calls:
        if call.startswith("airflow "):
            words = re.sub(r"(?<=set )(\w+) (\d) .*", r"\1 \2 text", call).split()[1:]
            assert airflow_command_exists(words), call
    assert calls[-1] == "python -m imagenet_etl share-folder /data"
    with pytest.raises(SystemExit) as helped:
        main(["share-folder", "--help"])
    assert helped.value.code == 0


def test_pools_are_made_with_the_slots_of_the_environment(recorded: dict[str, str]) -> None:
    pools = {call.split()[3]: call.split()[4] for call in calls_of(recorded, "/data")
             if call.startswith("airflow pools set")}  # fmt: skip
    named = json.loads((ROOT / "scripts" / "lib" / "pools.json").read_text())
    assert pools.keys() == named.keys()
    assert pools == {"network": "4", "cpu": "3"}


def test_a_bucket_is_not_marked_as_a_folder(recorded: dict[str, str]) -> None:
    assert not any("share-folder" in call for call in calls_of(recorded, "s3://bucket/data"))


def test_init_stops_at_the_first_thing_that_fails(recorded: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "airflow").write_text("#!/bin/sh\nexit 3\n")
    recorded.pop("calls")
    done = run(["sh", str(SCRIPTS / "init.sh")], **recorded, AIRFLOW_VAR_IMAGENET_DATA_DIR="/data")
    assert done.returncode == 3
    assert not (tmp_path / "calls").exists()


def test_the_entry_hands_words_on_as_they_are() -> None:
    echo = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]
    done = run([str(SCRIPTS / "entrypoint"), *echo, "two words", ""])
    assert done.stdout == "['two words', '']\n"
