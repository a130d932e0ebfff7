"""The steps of a deployment that happen on the instance, told by Systems Manager."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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

UNMOUNT_LIMIT = timedelta(minutes=10)
MOUNT = "mount"
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
    """Compares the mounted version with its manifest, on the instance.

    ``fast`` compares names and sizes, ``full`` reads every byte, which also loads the volume;
    ``none`` skips the task.
    """

    step = "verify"

    def __init__(self, *, deadline: timedelta = LONG, **kwargs: Any) -> None:
        super().__init__(deadline=deadline, **kwargs)

    def begin(self, context: Context) -> Begun:
        """Verify, unless the form says not to."""
        if self.asked.verify == "none":
            raise AirflowSkipException("The form asks for no verification")
        return super().begin(context)

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
    )


def unmount(operator: DeployOperator, context: Context) -> None:
    """See that the deployment's volume is not mounted any more, as far as the instance answers.

    Nothing is unmounted unless this run has mounted it: another volume may be at that place.

    Raises:
        StillPending: The instance is at it.
    """
    from imagenet_etl.aws.scripts import unmount_script
    from imagenet_etl.aws.ssm import command_progress, has_run, send_command
    from imagenet_etl.errors import CloudUnavailable, CommandFailed, StillPending

    ssm, since = operator.client("ssm"), _since(context)
    if not has_run(ssm, _command(operator, context, MOUNT, mount_text(operator)), since):
        return
    text = unmount_script(mount_point=operator.asked.mount_point)
    command = _command(operator, context, "unmount", text)
    try:
        sent = send_command(ssm, command, since)
        progress = command_progress(ssm, sent["CommandId"], command.instance_id)
        age = datetime.now(UTC) - sent["RequestedDateTime"]
        if not progress.done and age < UNMOUNT_LIMIT:
            raise StillPending(str(progress), retry_after_s=5.0)
    except (CommandFailed, CloudUnavailable) as error:
        # An instance that is gone, or has no agent, has nothing to unmount either.
        operator.log.warning("going on without an unmount: %s", error)


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
        # It takes a second, and after a reboot what was mounted is not.
        again=step == MOUNT,
    )


def _since(context: Context) -> datetime:
    return context["dag_run"].run_after - CLOCKS_APART
