"""What a deployment tells the instance to do, and what it makes of the answers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from tests.support.deploy_steps import (
    TOLD,
    clean_up,
    context,
    deployed,
    mount,
    says,
    sent,
    step,
    verify,
)
from tests.support.fault_proxy import FaultProxy
from tests.support.moto_server import MotoServer

from imagenet_etl.aws import client_config, ssm
from imagenet_etl.aws.deploy import READY
from imagenet_etl.aws.ebs.tags import tags_of
from imagenet_operators import deploy_commands

pytestmark = pytest.mark.airflow


def test_mount_is_sent_once_a_try(moto: MotoServer, attached: dict[str, Any]) -> None:
    assert mount(attached) == mount(attached)
    assert mount(attached, try_number=2) != mount(attached)
    assert len(sent(moto, attached)) == 2
    (volume,) = deployed(moto.client("ec2"))
    assert volume["VolumeId"] in sent(moto, attached)[0]["Parameters"]["commands"][0]
    assert all(len(command["Comment"]) <= 100 for command in sent(moto, attached))


def test_verification_that_has_succeeded_is_not_repeated(
    moto: MotoServer, attached: dict[str, Any]
) -> None:
    verify = step(deploy_commands.DeployVerifyOperator, attached | {"verify": "full"})
    assert verify.execute(context()) == verify.execute(context(try_number=2))
    (command,) = sent(moto, attached)
    assert TOLD.manifest_sha256 in command["Parameters"]["commands"][0]
    assert command["Parameters"]["executionTimeout"] == ["172800"]


def test_verification_that_nobody_wants_is_skipped(ec2: Any, attached: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException):
        verify(attached | {"verify": "none"})
    (volume,) = deployed(ec2)
    assert READY in tags_of(volume)


def test_volume_that_cannot_be_marked_as_ready_is_taken_away_at_once(
    aws: FaultProxy, ec2: Any, attached: dict[str, Any]
) -> None:
    aws.answer("CreateTags", status=403, code="UnauthorizedOperation")
    with pytest.raises(AirflowFailException, match="CreateTags"):
        verify(attached)
    clean_up(attached)
    assert deployed(ec2) == []


def test_lost_reply_sends_no_second_command(
    aws: FaultProxy, moto: MotoServer, attached: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_config, "_ATTEMPTS", 3)
    aws.drop_reply("SendCommand")
    assert mount(attached)["command_id"] == sent(moto, attached)[0]["CommandId"]
    assert len(sent(moto, attached)) == 1


def test_command_that_is_listed_late_is_sent_once(
    aws: FaultProxy, moto: MotoServer, attached: dict[str, Any]
) -> None:
    aws.rewrite("ListCommands", lambda _: b'{"Commands": []}', times=2)
    aws.rewrite("GetCommandInvocation", says("InProgress"), times=2)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            mount(attached)
    mount(attached)
    assert len(sent(moto, attached)) == 1


def test_command_that_its_instance_has_not_got_yet_is_found_all_the_same(
    moto: MotoServer, instance: str
) -> None:
    client, now = moto.client("ssm"), datetime.now(UTC)

    def leave_out(params: dict[str, Any], **_: Any) -> None:
        # As AWS does while it is pending; moto finishes it at once.
        if "InstanceId" in params:
            params["InstanceId"] = "i-0123456789abcdef0"

    client.meta.events.register("provide-client-params.ssm.ListCommands", leave_out)
    command = ssm.Command(instance, "mount", "true", "a run")
    made = {ssm.send_command(client, command, now)["CommandId"] for _ in range(3)}
    assert len(made) == 1


def test_command_that_was_never_heard_is_sent_by_the_next_try(
    aws: FaultProxy, moto: MotoServer, attached: dict[str, Any]
) -> None:
    aws.drop_request("SendCommand")
    with pytest.raises(AirflowException, match="CloudUnavailable"):
        mount(attached)
    mount(attached, try_number=2)
    assert len(sent(moto, attached)) == 1


def test_command_is_waited_for_without_a_slot(
    aws: FaultProxy, moto: MotoServer, attached: dict[str, Any]
) -> None:
    aws.answer("GetCommandInvocation", status=400, code="InvocationDoesNotExist")
    aws.rewrite("GetCommandInvocation", says("InProgress"), times=1)
    for _ in range(2):
        with pytest.raises(AirflowRescheduleException):
            mount(attached)
    mount(attached)
    assert len(sent(moto, attached)) == 1


def test_failed_command_tells_its_last_words(aws: FaultProxy, attached: dict[str, Any]) -> None:
    words = "x" * 9000 + " mount: wrong fs type"
    change = says("Failed", ResponseCode=32, StandardErrorContent=words)
    aws.rewrite("GetCommandInvocation", change)
    with pytest.raises(AirflowFailException, match=r"CommandFailed.*exit code 32.*fs type") as told:
        mount(attached)
    assert len(str(told.value)) < 4000


def test_command_over_its_deadline_fails(aws: FaultProxy, attached: dict[str, Any]) -> None:
    aws.rewrite("GetCommandInvocation", says("InProgress"))
    kind = deploy_commands.DeployMountOperator
    with pytest.raises(AirflowFailException, match=r"CommandFailed.*did not end in time"):
        step(kind, attached, deadline=timedelta(seconds=-10)).execute(context())


def test_agent_that_has_not_reported_yet_is_worth_a_retry(
    aws: FaultProxy, attached: dict[str, Any]
) -> None:
    aws.answer("SendCommand", status=400, code="InvalidInstanceId")
    with pytest.raises(AirflowException, match="AmazonSSMManagedInstanceCore") as caught:
        mount(attached)
    assert not isinstance(caught.value, AirflowFailException)
    mount(attached, try_number=2)
