"""The steps of a deployment that happen on the instance, told by Systems Manager."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from imagenet_operators.deploy import DeployOperator
from imagenet_operators.ebs.base import Begun
from imagenet_operators.ebs.waits import COMMAND

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_etl.aws.ssm import Command

SHORT = timedelta(minutes=20)
LONG = timedelta(hours=48)
"""Reading a terabyte from a volume that loads as it is read takes many hours; SSM's own bound."""

MOUNT, VERIFY, UNMOUNT = "mount", "verify", "unmount"
CLOCKS_APART = timedelta(hours=1)


class _CommandOperator(DeployOperator):
    """Sends a script, once a try, and waits for its end without a worker slot."""

    step: ClassVar[str]

    def begin(self, context: Context) -> Begun:
        """Find the command or send it."""
        from imagenet_etl.aws.ssm import send_command

        ssm = self.client("ssm")
        command = self.command(context)
        sent = send_command(ssm, command, _since(context))
        ids = {"command_id": sent["CommandId"], "instance_id": command.instance_id}
        return Begun(ids, [self.wait_for(COMMAND, ssm, sent["RequestedDateTime"], **ids)])

    def finish(self, context: Context, result: dict[str, str]) -> dict[str, str]:  # noqa: ARG002
        """Put what the instance said into the log."""
        from imagenet_etl.aws.ssm import command_output

        self.log.info("%s", command_output(self.client("ssm"), **result))
        return result

    def command(self, context: Context) -> Command:
        """Return the command of this try."""
        return _command(self, context, self.step, self.script())

    def script(self) -> str:
        """Return what the instance is to do."""
        raise NotImplementedError


class DeployMountOperator(_CommandOperator):
    """Mounts the volume on the instance, read-only unless the form says otherwise."""

    step = MOUNT

    def __init__(self, *, deadline: timedelta = SHORT, **kwargs: Any) -> None:
        super().__init__(deadline=deadline, **kwargs)

    def script(self) -> str:
        """Return the script, which finds the device by the volume's id."""
        return mount_text(self)


class DeployVerifyOperator(_CommandOperator):
    """Compares the mounted version with its manifest, on the instance; marks the volume as ready.

    ``fast`` compares names and sizes, ``full`` reads every byte, which also loads the volume;
    ``none`` skips the task. The mark is set here, so that what cannot be marked is taken away at
    once, and not by a later run, when somebody reads from it.
    """

    step = VERIFY

    def __init__(self, *, deadline: timedelta = LONG, **kwargs: Any) -> None:
        super().__init__(deadline=deadline, **kwargs)

    def begin(self, context: Context) -> Begun:
        """Verify, unless the form says not to."""
        if self.asked.verify == "none":
            self._mark_ready()
            raise AirflowSkipException("The form asks for no verification")
        return super().begin(context)

    def finish(self, context: Context, result: dict[str, str]) -> dict[str, str]:
        """Mark the volume as ready."""
        self._mark_ready()
        return super().finish(context, result)

    def _mark_ready(self) -> None:
        from imagenet_etl.aws.deploy import mark_ready, volume_of

        ec2 = self.client()
        mark_ready(ec2, volume_of(ec2, self.asked)["VolumeId"])

    def script(self) -> str:
        """Return the script."""
        from imagenet_etl.aws.deploy import volume_of
        from imagenet_etl.aws.scripts import verify_script

        asked = self.asked
        text = verify_script(
            folder=asked.folder, manifest_sha256=asked.manifest_sha256, full=asked.verify == "full"
        )
        # What was verified on another volume at the same place says nothing about this one.
        return f"{text}# {volume_of(self.client(), asked)['VolumeId']}\n"


def mount_text(operator: DeployOperator) -> str:
    """Return the script that mounts the volume of an operator's deployment."""
    from imagenet_etl.aws.deploy import volume_of
    from imagenet_etl.aws.ebs.waits import attachment_of
    from imagenet_etl.aws.scripts import mount_script

    asked = operator.asked
    volume = volume_of(operator.client(), asked)
    return mount_script(
        volume_id=volume["VolumeId"],
        mount_point=asked.mount_point,
        read_only=asked.read_only,
        device=attachment_of(volume, asked.instance_id).get("Device", ""),
        # The volume is marked as ready: after a reboot, too, its data has to be there.
        at_boot=True,
    )


def unmount(operator: DeployOperator, context: Context, volume: dict[str, Any]) -> None:
    """See that a volume is not mounted any more, as far as the instance answers.

    Raises:
        VolumeFailed: The instance cannot unmount it: something uses it still.
        StillPending: The instance is at it.
    """
    from imagenet_etl.aws.ebs.waits import attachment_of
    from imagenet_etl.aws.scripts import unmount_script
    from imagenet_etl.aws.ssm import (
        NO_AGENT,
        command_progress,
        send_command,
        was_delivered,
    )
    from imagenet_etl.errors import CloudUnavailable, CommandFailed, StillPending, VolumeFailed

    asked, ssm, volume_id = operator.asked, operator.client("ssm"), volume["VolumeId"]
    text = unmount_script(
        volume_id=volume_id,
        mount_point=asked.mount_point,
        device=attachment_of(volume, asked.instance_id).get("Device", ""),
    )
    try:
        sent = send_command(ssm, _command(operator, context, UNMOUNT, text), _since(context))
    except CloudUnavailable as error:
        if error.found != NO_AGENT:
            raise
        # An instance that is gone, or has no agent, has mounted nothing either.
        operator.log.warning("going on without an unmount: %s", error)
        return
    try:
        progress = command_progress(ssm, sent["CommandId"], asked.instance_id)
    except CommandFailed as error:
        if was_delivered(ssm, sent["CommandId"], asked.instance_id):
            raise VolumeFailed(
                f"volume {volume_id} is still mounted on {asked.instance_id}",
                found=error.found,
                remedy=f"Stop there what `fuser -vm {asked.mount_point}` shows, then clear this "
                "task; it deletes the volume",
            ) from error
        operator.log.warning("going on without an unmount: %s", error)
        return
    if not progress.done:
        raise StillPending(str(progress), retry_after_s=5.0)


def _command(operator: DeployOperator, context: Context, step: str, script: str) -> Command:
    from imagenet_etl.aws.ssm import Command

    ti = context["ti"]
    return Command(
        instance_id=operator.asked.instance_id,
        step=step,
        script=script,
        asked_by=f"{ti.dag_id}/{ti.run_id}",
        attempt=ti.try_number,
        limit_s=int(operator.deadline.total_seconds()),
        # It takes a second, and what was mounted may not be so any more.
        again=step != VERIFY,
    )


def _since(context: Context) -> datetime:
    return context["dag_run"].run_after - CLOCKS_APART
