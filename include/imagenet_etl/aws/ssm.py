"""Run a script on an instance through Systems Manager, without SSH and without a key.

SendCommand takes no idempotency token, so a command is found again by its comment: whoever repeats
a call whose reply was lost finds the first one. Source: AWS Systems Manager API Reference, actions
SendCommand, ListCommands and GetCommandInvocation; document AWS-RunShellScript.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from imagenet_etl.aws.ebs.once import found_soon, never_repeated
from imagenet_etl.aws.ebs.waits import Progress
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.errors import CloudUnavailable, CommandFailed

DOCUMENT = "AWS-RunShellScript"
MAX_EXECUTION_S = 172_800
"""The document's bound of ``executionTimeout``: 48 h; left to itself it stops after one."""

_DELIVERY_S = 600
_TAIL = 2000
_UNDER_WAY = {"Pending", "InProgress", "Delayed", "Cancelling"}
_NOT_YET = "InvocationDoesNotExist"

NO_AGENT = "InvalidInstanceId"
"""What ``CloudUnavailable.found`` is when the instance's agent has not reported."""

_NOT_DELIVERED = {"Undeliverable", "DeliveryTimedOut", "Terminated"}


@dataclass(frozen=True)
class Command:
    """What an instance is told to do, and by whom.

    Attributes:
        instance_id: The instance.
        step: What it is for, in a word or two; part of the comment.
        script: Text for bash; running it twice must do no harm.
        asked_by: The run that asks.
        attempt: Which try of that run; a command that failed is sent again by the next one.
        limit_s: How long it may run on the instance.
        again: Whether the next try also sends again what has succeeded.
    """

    instance_id: str
    step: str
    script: str
    asked_by: str
    attempt: int = 1
    limit_s: int = 3600
    again: bool = False

    @property
    def name(self) -> str:
        """What finds every attempt of it; with the number of a try under 100 characters."""
        what = "\0".join((self.instance_id, self.step, self.script, self.asked_by))
        return f"imagenet-etl {self.step} {hashlib.sha256(what.encode()).hexdigest()[:32]}"

    @property
    def comment(self) -> str:
        """What finds this attempt."""
        return f"{self.name} try {self.attempt}"


def send_command(ssm: Any, command: Command, since: datetime) -> dict[str, Any]:
    """Find the command or send it; return what ListCommands tells of it.

    A command of an earlier try is taken when it is still under way, or has succeeded and is not to
    be sent ``again``; of this try, whatever became of it.

    Args:
        ssm: A boto3 client of the instance's region.
        command: What to do.
        since: Commands from before are not looked at.

    Raises:
        CloudUnavailable: The instance's agent has not reported; it may still be starting.
        AccessDenied, CloudError: AWS refuses.
    """
    usable = _UNDER_WAY if command.again else _UNDER_WAY | {"Success"}
    found = None
    for sent in _tries(ssm, command, since):
        if sent["Comment"] == command.comment:
            return sent
        if sent["Status"] in usable:
            found = sent
    if found is not None:
        return found
    try:
        with typed_aws_errors("SendCommand", command.instance_id, {NO_AGENT}):
            reply = never_repeated(ssm, service="ssm").send_command(
                InstanceIds=[command.instance_id],
                DocumentName=DOCUMENT,
                Comment=command.comment,
                TimeoutSeconds=_DELIVERY_S,
                Parameters={
                    "commands": [command.script],
                    "executionTimeout": [str(min(command.limit_s, MAX_EXECUTION_S))],
                },
            )
    except ClientError as error:
        raise CloudUnavailable(
            f"SendCommand: instance {command.instance_id} does not answer Systems Manager",
            found=NO_AGENT,
            remedy="Wait until it has started; else see that its SSM agent runs and that its "
            "instance profile has AmazonSSMManagedInstanceCore",
        ) from error
    except CloudUnavailable:
        # The instance may have been told all the same.
        sent_now = found_soon(lambda: _of_this_try(ssm, command, since))
        if sent_now is None:
            raise
        return sent_now
    # The next round must find it, and not send it again.
    return found_soon(lambda: _of_this_try(ssm, command, since)) or dict(reply["Command"])


def _of_this_try(ssm: Any, command: Command, since: datetime) -> dict[str, Any] | None:
    found = (sent for sent in _tries(ssm, command, since) if sent["Comment"] == command.comment)
    return next(found, None)


def _tries(ssm: Any, command: Command, since: datetime) -> list[dict[str, Any]]:
    """Return the attempts of a command that are known; that of this try, if it was sent."""
    tries = _listed(ssm, command, since, InstanceId=command.instance_id)
    if any(sent["Comment"] == command.comment for sent in tries):
        return tries
    # A command that has not reached its instance yet is left out of the instance's own.
    return _listed(ssm, command, since)


def _listed(ssm: Any, command: Command, since: datetime, **where: str) -> list[dict[str, Any]]:
    filters = [
        {"key": "InvokedAfter", "value": since.strftime("%Y-%m-%dT%H:%M:%SZ")},
        {"key": "DocumentName", "value": DOCUMENT},
    ]
    pages = ssm.get_paginator("list_commands").paginate(Filters=filters, **where)
    with typed_aws_errors("ListCommands", command.instance_id):
        return [
            dict(sent)
            for page in pages
            for sent in page["Commands"]
            if sent["Comment"].startswith(f"{command.name} ")
        ]


def command_progress(ssm: Any, command_id: str, instance_id: str) -> Progress:
    """Return how far a command is on an instance.

    Raises:
        CommandFailed: It failed, timed out or was cancelled; names its exit code and the end of
            what it wrote.
    """
    thing = f"command {command_id} on {instance_id}"
    reply = _invocation(ssm, command_id, instance_id)
    if reply is None:
        # The answer to SendCommand is ahead of what can be asked for.
        return Progress(thing, "Pending", False, "not listed yet")
    state = reply["StatusDetails"] or reply["Status"]
    if reply["Status"] not in _UNDER_WAY | {"Success"}:
        raise CommandFailed(
            f"{thing} did not succeed",
            expected="Success",
            found=f"{state}, exit code {reply.get('ResponseCode', -1)}: {_tail(reply)}",
            remedy="Repair what it tells, then start again",
        )
    told = state if state != reply["Status"] else ""
    return Progress(thing, reply["Status"], reply["Status"] == "Success", told)


def was_delivered(ssm: Any, command_id: str, instance_id: str) -> bool:
    """Return whether an instance was given a command, however that ended."""
    reply = _invocation(ssm, command_id, instance_id)
    return reply is not None and reply["StatusDetails"].replace(" ", "") not in _NOT_DELIVERED


def command_output(ssm: Any, command_id: str, instance_id: str) -> str:
    """Return what a command has written to its standard output: the first 24,000 characters."""
    reply = _invocation(ssm, command_id, instance_id)
    return "" if reply is None else str(reply.get("StandardOutputContent", ""))


def _invocation(ssm: Any, command_id: str, instance_id: str) -> dict[str, Any] | None:
    try:
        with typed_aws_errors("GetCommandInvocation", command_id, {_NOT_YET}):
            reply: dict[str, Any] = ssm.get_command_invocation(
                CommandId=command_id, InstanceId=instance_id
            )
    except ClientError:
        return None
    return reply


def _tail(reply: Mapping[str, Any]) -> str:
    """Return the end of what was written, errors first; AWS keeps its beginning only."""
    for name in ("StandardErrorContent", "StandardOutputContent"):
        if text := str(reply.get(name) or "").strip():
            return text[-_TAIL:]
    return "nothing was written"
