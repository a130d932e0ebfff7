"""Put a dataset under instances: find the snapshot; volume, attachment, mount, check for each."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from imagenet_operators.ebs.attach_volume import attach
from imagenet_operators.ebs.base import Begun, EbsOperator, name_of_task
from imagenet_operators.ebs.links import EbsVolumeLink
from imagenet_operators.ebs.waits import VOLUME

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_etl.aws.deployment import Deployment


class ResolveDeploymentsOperator(EbsOperator):
    """Makes one deployment of each instance in the form, all of one snapshot, found by its tags.

    Returns:
        ``Deployment.to_dict`` of each.
    """

    def begin(self, context: Context) -> Begun:
        """Look at snapshots and instances; makes nothing."""
        from imagenet_etl.aws.deploy import resolve
        from imagenet_operators.deploy_form import wanted

        params = context["params"]
        ec2 = self.client(region_name=params.get("region"))
        found = resolve(ec2, wanted(params), list(params.get("instance_ids") or ()))
        for deployment in found:
            self.log.info(
                "%s: volume of %s in %s",
                deployment.name,
                deployment.snapshot_id,
                deployment.availability_zone,
            )
        return Begun([deployment.to_dict() for deployment in found])


class DeployOperator(EbsOperator):
    """A step of one deployment. It finds the volume by the deployment's tag, never by XCom.

    Args:
        deployment: ``Deployment.to_dict`` of one.
    """

    template_fields = (*EbsOperator.template_fields, "deployment")
    operator_extra_links = (EbsVolumeLink(),)

    def __init__(self, *, deployment: dict[str, Any], **kwargs: Any) -> None:
        # Airflow shows a mapped task by its number unless told.
        shown = {"map_index_template": "{{ task.deployment['instance_id'] }}"}
        super().__init__(**shown | kwargs)
        self.deployment = deployment

    @property
    def asked(self) -> Deployment:
        """The deployment."""
        from imagenet_etl.aws.deployment import Deployment

        return Deployment.from_dict(self.deployment)

    def client(self, service: str = "ec2", region_name: str | None = None) -> Any:
        """Return a boto3 client in the deployment's region."""
        return super().client(service, region_name or self.asked.region)


class DeployVolumeOperator(DeployOperator):
    """Creates the volume from the snapshot, or finds it."""

    def begin(self, context: Context) -> Begun:
        """Create; what is waited for is that it can be attached."""
        from imagenet_etl.aws.ebs.volumes import create_volume
        from imagenet_etl.aws.ebs.waits import described_volume

        asked, ec2 = self.asked, self.client()
        # A later run must not get the id of a volume that this one has taken away again.
        run = name_of_task(context)
        volume_id = create_volume(ec2, asked.volume_request(), asked.name, salt=run)
        self.show(ec2, volume_id)
        created = described_volume(ec2, volume_id)["CreateTime"]
        return Begun(volume_id, [self.wait_for(VOLUME, ec2, created, volume_id=volume_id)])


class DeployAttachOperator(DeployOperator):
    """Attaches the volume to the instance, and lets it end with it unless the form says not to."""

    def begin(self, context: Context) -> Begun:  # noqa: ARG002
        """Attach; what is waited for is that EC2 says so."""
        from imagenet_etl.aws.deploy import volume_of

        volume_id = volume_of(self.client(), self.asked)["VolumeId"]
        return attach(self, volume_id, self.asked.instance_id)

    def finish(self, context: Context, result: str) -> str:  # noqa: ARG002
        """Say what becomes of the volume when the instance is terminated."""
        from imagenet_etl.aws.deploy import volume_of
        from imagenet_etl.aws.ebs.attachments import set_delete_on_termination

        asked, ec2 = self.asked, self.client()
        if asked.delete_on_termination:
            volume_id = volume_of(ec2, asked)["VolumeId"]
            set_delete_on_termination(ec2, asked.instance_id, volume_id)
        return result


class DeployReportOperator(DeployOperator):
    """Tells where everything is and how to be rid of it."""

    def begin(self, context: Context) -> Begun:
        """Tell; nothing is under way afterwards."""
        from imagenet_etl.aws.deploy import volume_of
        from imagenet_etl.aws.deploy_report import report

        asked, ec2 = self.asked, self.client()
        volume = volume_of(ec2, asked)
        self.show(ec2, volume["VolumeId"])
        text = report(asked, volume, begun=context["dag_run"].start_date)
        self.log.info("\n%s", text)
        return Begun({"volume_id": volume["VolumeId"], "folder": asked.folder, "text": text})


class DeployCleanUpOperator(DeployOperator):
    """Takes a half-made volume away after a step has failed: unmounts, detaches and deletes it.

    What was ready before stays, whatever failed now: somebody may be reading from it. The run fails
    all the same, by the step that failed.
    """

    def __init__(self, *, deadline: timedelta = timedelta(minutes=30), **kwargs: Any) -> None:
        super().__init__(deadline=deadline, **kwargs)

    def begin(self, context: Context) -> Begun:
        """Take it away, coming again until it is gone."""
        from imagenet_etl.aws.deploy import half_made, take_away
        from imagenet_etl.errors import StillPending
        from imagenet_operators.deploy_commands import unmount

        asked, ec2 = self.asked, self.client()
        volumes = half_made(ec2, asked)
        if not volumes:
            raise AirflowSkipException(f"{asked.name} has left nothing half made")
        for volume in volumes:
            if volume["Attachments"]:
                unmount(self, context, volume)
        if left := take_away(ec2, asked):
            raise StillPending(
                f"volume {', '.join(left)} of {asked.name} cannot be deleted yet",
                remedy=f"Unmount {asked.mount_point} on {asked.instance_id}, detach the volume, "
                "and delete it",
                retry_after_s=5.0,
            )
        there = [volume["VolumeId"] for volume in volumes]
        self.log.info("deleted volume %s of %s", ", ".join(there), asked.name)
        return Begun(there)
