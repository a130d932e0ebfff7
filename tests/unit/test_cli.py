"""The command line: what it does with its arguments, what it prints, how it exits."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import ARCHIVE, tiny_zip
from tests.support.moto_server import MotoServer

from imagenet_etl.cli import DONE, TERMINAL, TRANSIENT, USAGE, main

Command = Callable[..., int]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site")


@pytest.fixture
def argv(tmp_path: Path, archive: Path) -> Callable[..., list[str]]:
    """Return the arguments of a command on the sample archive."""

    def arguments(name: str, *more: str) -> list[str]:
        source = ["--source", f"{ARCHIVE}={archive}", "--expect", "any", "--workers", "1"]
        data = ["--data-dir", str(tmp_path / "data"), "--version", "v1"]
        return [name, "tiny_imagenet", *data, *source, *more]

    return arguments


@pytest.fixture
def command(argv: Callable[..., list[str]]) -> Command:
    """Run a command on the sample archive."""
    return lambda name, *more: main(argv(name, *more))


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "data/datasets/tiny_imagenet/registry.json"


def test_prepare_prints_where_the_version_is(
    command: Command, tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("prepare") == DONE
    version = tmp_path / "data/datasets/tiny_imagenet/v1"
    assert capsys.readouterr().out == f"{version}\n"
    assert json.loads(registry.read_text())["latest"] == "v1"
    assert main(["verify", str(version)]) == DONE
    assert "all good" in capsys.readouterr().out


def test_stages_one_by_one_do_the_same(command: Command, registry: Path) -> None:
    for stage in (
        "download",
        "untar",
        "restructure_val",
        "filter_classes",
        "plan_shards",
        "pack",
        "verify",
    ):
        assert not registry.exists()
        assert command(stage) == DONE
    assert command("publish") == DONE
    assert json.loads(registry.read_text())["latest"] == "v1"


def test_groups_of_one_run_are_packed_at_once_and_then_completed(
    command: Command, argv: Callable[..., list[str]], registry: Path
) -> None:
    shared = ("--run", "job-7", "--shards", "6")
    for stage in ("download", "untar", "restructure_val", "filter_classes", "plan_shards"):
        assert command(stage, *shared) == DONE
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "imagenet_etl", *argv("pack", *shared, "--group", g)]
        )
        for g in ("1/3", "2/3", "3/3")
    ]
    assert [process.wait(60) for process in running] == [DONE] * 3
    assert command("prepare", *shared) == DONE
    assert registry.exists()


def test_the_groups_of_a_run_keep_other_runs_out(command: Command, registry: Path) -> None:
    for stage in ("download", "untar", "restructure_val", "filter_classes", "plan_shards"):
        assert command(stage, "--run", "job-7") == DONE
    assert command("pack", "--run", "job-7", "--group", "1/2") == DONE
    assert command("prepare") == TERMINAL
    assert command("prepare", "--run", "job-7") == DONE
    assert command("prepare") == DONE


def test_a_group_that_is_none_is_a_usage_error(command: Command) -> None:
    assert command("pack", "--group", "3/2") == USAGE


def test_prepare_backs_up_and_snapshots_when_asked(
    command: Command, registry: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    moto.bucket("backups")
    volume = moto.client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    cloud = ["--s3-uri", "s3://backups/x", "--ebs-volume-id", volume]
    assert command("prepare", *cloud) == DONE
    entry = json.loads(registry.read_text())["versions"]["v1"]
    assert entry["s3_uri"] == "s3://backups/x/tiny_imagenet/v1"
    assert entry["snapshots"]["us-east-1"].startswith("snap-")


def test_optional_stage_without_its_setting_says_that_it_is_skipped(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert command("prepare") == DONE
    assert command("back_up_to_s3") == DONE
    assert "skipped: no S3 URI is set" in caplog.text


def test_relative_source_is_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for number, members in enumerate(({}, {"train/n00000001/images/n00000001_3.JPEG": None})):
        folder = tmp_path / str(number)
        folder.mkdir()
        tiny_zip(folder, members)
        monkeypatch.chdir(folder)
        arguments = ["--source", f"{ARCHIVE}={ARCHIVE}", "--expect", "any", "--workers", "1"]
        data = ["--data-dir", str(tmp_path / "data")]
        assert main(["prepare", "tiny_imagenet", *data, *arguments]) == DONE
        made.append(len(list((tmp_path / "data/datasets/tiny_imagenet").glob("*/manifest.json"))))
    assert made == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--resize", "huge"], USAGE, "setting resize"),
        (["--quality", "0"], USAGE, "setting quality: expected 1 to 100"),
        (["--source", "/a/second.zip"], USAGE, f"--source for {ARCHIVE} twice"),
        (["--source", "other.zip=/x"], USAGE, "'other.zip' is not an archive of Tiny ImageNet"),
        (["--expect", "published"], TERMINAL, "ChecksumMismatch"),
    ],
)
def test_errors_are_one_line_and_have_their_exit_code(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    assert command("prepare", *arguments) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert files_below(tmp_path / "data/datasets") == {}


@pytest.mark.parametrize("prefix", ["", f"{ARCHIVE}="])
def test_a_missing_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str
) -> None:
    place = tmp_path / "a=b" / "no.zip"
    arguments = ["--data-dir", str(tmp_path / "data"), "--source", f"{prefix}{place}"]
    assert main(["prepare", "tiny_imagenet", *arguments]) == TERMINAL
    assert f"SourceNotFound: {place}" in capsys.readouterr().err


def test_stage_before_its_predecessor_says_what_to_run(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("pack") == TERMINAL
    assert "Run download first, or prepare" in capsys.readouterr().err


def test_unreachable_endpoint_is_a_transient_exit(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in MotoServer("http://127.0.0.1:9").environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert command("prepare", "--s3-uri", "s3://backups") == TRANSIENT


@pytest.mark.parametrize("name", ["prepare", "verify", "sample", "publish", "pack"])
def test_help_is_free_of_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == DONE
    assert "``" not in capsys.readouterr().out


def test_sample_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_bytes(b"precious")
    assert main(["sample", "tiny_imagenet", "--out", str(mine), "--classes", "2"]) == TERMINAL
    assert "exists already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [mine]
    assert mine.read_bytes() == b"precious"


def test_a_stage_that_the_dataset_does_not_have_is_told(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("split_val") == USAGE
    assert "Tiny ImageNet has no stage split_val: expected download or" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("download", DONE), ("pack", TERMINAL)])
def test_sigterm_does_afterwards_what_it_did_before(command: Command, name: str, code: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert command(name) == code
    assert signal.getsignal(signal.SIGTERM) is before
