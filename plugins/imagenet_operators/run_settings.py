"""A run's settings: the form, then Airflow Variables, then defaults; frozen by the first task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Variable

from imagenet_etl.build import Build, freeze_settings, frozen_settings, new_build, open_storage
from imagenet_etl.config import Settings
from imagenet_etl.datasets import facts_of
from imagenet_etl.errors import ConfigError
from imagenet_etl.leases import Owner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from imagenet_operators.stage import StageOperator

DEFAULT_DATA_DIR = "/data"
SKIP = "none"
"""What the form says to skip a step that an Airflow Variable asks for."""


def build_for(operator: StageOperator, context: Context) -> Build:
    """Return the build of the task's run, with its settings frozen.

    Raises:
        ConfigError: A setting is out of its bounds.
        StageNotDone: The run's first task has not frozen the settings.
    """
    run = f"{context['dag'].dag_id}:{context['run_id']}"
    params = dict(context["params"])
    storage = open_storage(site_value(params, "data_dir") or DEFAULT_DATA_DIR)
    if operator.is_first:
        settings = freeze_settings(
            storage, operator.dataset, run, lambda: resolve(operator.dataset, params)
        )
    else:
        settings = frozen_settings(storage, operator.dataset, run)
    ti = context["ti"]
    claim = operator.task_id if ti.map_index < 0 else f"{operator.task_id}[{ti.map_index}]"
    aws = AwsClients(operator.aws_conn_id)
    return new_build(settings, Owner(run, claim, ti.try_number), aws)


def resolve(dataset: str, params: dict[str, Any]) -> Settings:
    """Make settings of a run's params and the site's Variables.

    Raises:
        ConfigError: A value is out of its bounds, or a URL may hold a secret.
    """
    source = urlsplit(params.get("source") or "")
    if source.netloc and ("@" in source.netloc or source.query):
        raise ConfigError(
            "the source URL holds a user, a password or a query",
            expected="a URL without them, since Airflow shows params to whoever may see the run",
            remedy="Download the archive by hand and give its path",
        )
    archive = facts_of(dataset).archives[0].name
    return Settings(
        dataset=dataset,
        data_dir=site_value(params, "data_dir") or DEFAULT_DATA_DIR,
        version=params.get("version") or "",
        sources={archive: params["source"]} if params.get("source") else {},
        formats=tuple(dict.fromkeys(params["formats"])),
        resize=params["resize"],
        upscale=params["upscale"],
        quality=params["quality"],
        subsampling=params["subsampling"],
        center_crop=params["center_crop"],
        png=params["png"],
        im2rec_compat=params["im2rec_compat"],
        shards=params["shards"],
        val_shards=params["val_shards"],
        seed=params["seed"],
        max_bad=params.get("max_bad"),
        expect=params["expect"],
        workers=params["workers"],
        s3_uri=site_value(params, "s3_uri"),
        ebs_volume_id=site_value(params, "ebs_volume_id"),
    )


def site_value(params: dict[str, Any], name: str) -> str:
    """Return the form's value, else that of the Variable ``imagenet_<name>``, else nothing."""
    value = params.get(name) or Variable.get(f"imagenet_{name}", default="") or ""
    return "" if value == SKIP else str(value)


class AwsClients:
    """boto3 clients from an Airflow connection, made when they are first asked for."""

    def __init__(self, aws_conn_id: str) -> None:
        self._aws_conn_id = aws_conn_id

    def __call__(self, service: str) -> Any:
        """Return the client of ``s3`` or ``ec2``."""
        # The provider takes a second to import; DAG files must not pay for it.
        if service == "s3":
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook

            return S3Hook(aws_conn_id=self._aws_conn_id).get_conn()
        from airflow.providers.amazon.aws.hooks.ec2 import EC2Hook

        return EC2Hook(aws_conn_id=self._aws_conn_id, api_type="client_type").conn
