"""Put a dataset under running instances: snapshot, volume, attachment, mount, check."""

from datetime import timedelta

from airflow.sdk import chain, dag, task_group

from imagenet_operators.dag import CALLING, RETRIES
from imagenet_operators.deploy import (
    DeployAttachOperator,
    DeployCleanUpOperator,
    DeployReportOperator,
    DeployVolumeOperator,
    ResolveDeploymentsOperator,
)
from imagenet_operators.deploy_commands import DeployMountOperator, DeployVerifyOperator
from imagenet_operators.deploy_form import deploy_form

DOC = """# Deploy a dataset

Makes a volume from the newest snapshot of a published version, attaches it to each instance, mounts
it there through Systems Manager, and verifies it. A step that fails takes the half-made volume away
again; the same form a second time finds the volume of the first. `docs/deploy.md` tells what the
instances need.
"""


@dag(
    dag_id="deploy_dataset",
    dag_display_name="Deploy a dataset",
    description="From a snapshot to a mounted volume on each instance",
    schedule=None,
    max_active_runs=1,
    default_args=RETRIES
    | CALLING
    | {"trigger_rule": "none_failed", "poll_interval": timedelta(seconds=5)},
    params=deploy_form(),
    doc_md=DOC,
    tags=["imagenet"],
)
def deploy_dataset():
    """Chain the steps of each instance; whatever fails, nothing half made is left."""

    @task_group
    def instance(deployment):
        steps = [
            DeployVolumeOperator(task_id="create_volume", deployment=deployment),
            DeployAttachOperator(task_id="attach_volume", deployment=deployment),
            DeployMountOperator(task_id="mount", deployment=deployment),
            DeployVerifyOperator(task_id="verify", deployment=deployment),
        ]
        clean_up = DeployCleanUpOperator(
            task_id="clean_up", deployment=deployment, trigger_rule="one_failed"
        )
        chain(*steps, DeployReportOperator(task_id="report", deployment=deployment))
        chain(steps, clean_up)

    instance.expand(deployment=ResolveDeploymentsOperator(task_id="resolve").output)


deploy_dataset()
