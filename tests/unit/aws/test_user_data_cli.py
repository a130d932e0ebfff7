"""The command that prints launch scripts."""

import argparse

import pytest

from imagenet_etl.aws.user_data import Consumer, Producer
from imagenet_etl.cli_user_data import add_user_data
from imagenet_etl.errors import ConfigError


def run(*words: str) -> None:
    parser = argparse.ArgumentParser()
    add_user_data(parser.add_subparsers())
    args = parser.parse_args(["user-data", *words])
    args.run(args)


def test_a_producer(capsys: pytest.CaptureFixture[str]) -> None:
    run("--role", "producer", "--mount", "/data", "--size-gib", "500", "--stop-when-done")
    assert capsys.readouterr().out == Producer("/data", 500, stop_when_done=True).script()


def test_a_consumer(capsys: pytest.CaptureFixture[str]) -> None:
    run("--role", "consumer", "--mount", "/data", "--dataset", "ilsvrc2012@v1", "--verify", "full",
        "--region", "eu-central-1", "--shared-by", "111122223333")  # fmt: skip
    expected = Consumer("ilsvrc2012@v1", "/data", "111122223333", "eu-central-1", "full")
    assert capsys.readouterr().out == expected.script()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--role", "consumer"), "needs --dataset"),
        (("--role", "producer"), "needs --size-gib"),
        (("--role", "consumer", "--dataset", "a", "--stop-when-done"), "no --stop-when-done"),
        (("--role", "producer", "--size-gib", "1", "--verify", "full"), "no --verify"),
    ],
)
def test_options_of_the_other_role_are_refused(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run("--mount", "/data", *words)
