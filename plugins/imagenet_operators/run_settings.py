"""A run's settings: the form, then Airflow Variables, then defaults; frozen by the first task."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from imagenet_etl.build import Build, freeze_settings, frozen_settings, made_client, new_build
from imagenet_etl.config import Settings
from imagenet_etl.datasets import DatasetFacts, facts_of
from imagenet_etl.download.urls import local_source, split_digest
from imagenet_etl.errors import ConfigError, StageNotDone
from imagenet_etl.leases import Owner
from imagenet_etl.storage.opening import open_storage
from imagenet_operators.data_folder import check_data_folder, not_frozen
from imagenet_operators.form import ALL_SPLITS
from imagenet_operators.login import login_of

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
        StageNotDone: The run's first task has not frozen the settings, or elsewhere.
        StorageError: This worker does not see the data folder, or another one.
    """
    run = f"{context['dag'].dag_id}:{context['run_id']}"
    params = dict(context["params"])
    dataset = dataset_of(operator.dataset, params)
    aws = AwsClients(operator.aws_conn_id)
    data_dir = site_value(params, "data_dir") or DEFAULT_DATA_DIR
    storage = open_storage(data_dir, lambda: made_client(aws, "s3"))
    check_data_folder(storage, context, is_first=operator.is_first)
    if operator.is_first:
        settings = freeze_settings(storage, dataset, run, lambda: resolve(dataset, params))
    else:
        try:
            settings = frozen_settings(storage, dataset, run)
        except StageNotDone as error:
            raise not_frozen(error, storage) from None
    ti = context["ti"]
    claim = operator.task_id if ti.map_index < 0 else f"{operator.task_id}[{ti.map_index}]"
    login = partial(login_of, operator.http_conn_id)
    owner = Owner(run, claim, ti.try_number)
    return new_build(settings, owner, aws, login, operator.slice_s, aws.for_workers)


def dataset_of(dataset: str, params: dict[str, Any]) -> str:
    """Return the dataset of a run: that of the DAG, or another release of it.

    Raises:
        ConfigError: There is no such release.
    """
    releases = facts_of(dataset).releases
    release = params.get("release")
    if not releases or release is None:
        return dataset
    if release not in releases:
        raise ConfigError(f"release {release!r}", expected=" or ".join(releases))
    return releases[release]


def resolve(dataset: str, params: dict[str, Any]) -> Settings:
    """Make settings of a run's params and the site's Variables.

    Raises:
        ConfigError: A value is out of its bounds, or a URL may hold a secret.
    """
    plain = {item.name for item in fields(Settings)} - {"dataset", "data_dir", "version", "sources",
             "splits", "s3_uri", "ebs_volume_id"}  # fmt: skip
    # Whoever triggers by the API may leave out a list, or give null where the form gives nothing.
    given = {name: params[name] for name in plain & params.keys() if params[name] is not None}
    given = facts_of(dataset).defaults | given
    return Settings(
        dataset=dataset,
        data_dir=site_value(params, "data_dir") or DEFAULT_DATA_DIR,
        version=params.get("version") or "",
        sources=_sources(facts_of(dataset), params),
        splits=() if params.get("splits") in (None, "", ALL_SPLITS) else (params["splits"],),
        s3_uri=site_value(params, "s3_uri"),
        ebs_volume_id=site_value(params, "ebs_volume_id"),
        **given | {"formats": tuple(dict.fromkeys(params["formats"]))},
    )


def _sources(facts: DatasetFacts, params: dict[str, Any]) -> dict[str, str]:
    """Return the sources by archive, of the form or the site, refusing URLs that may hold a secret.

    Raises:
        ConfigError: One does, or one archive is given twice.
    """
    fields = {f"source_{archive.role}": archive.name for archive in facts.archives if archive.role}
    sources = {name: params[field] for field, name in fields.items() if params.get(field)}
    whole = params.get("source")
    if not whole and not sources:
        # A scheduled run has no form.
        whole = Variable.get(f"imagenet_source_{facts.name}", default="")
    if whole:
        name = facts.archive_at(whole)
        if name in sources:
            raise ConfigError(f"{name} is given twice", remedy="Leave one of the two fields empty")
        sources[name] = whole
    for place in sources.values():
        if _may_hold_a_secret(place):
            raise ConfigError(
                "a source URL holds a user, a password, a query or the like",
                expected="scheme, host and path alone, since Airflow shows params to whoever may "
                "see the run",
                remedy="Put them into the connection imagenet_default, or download the archive by "
                "hand and give its path",
            )
    return sources


def _may_hold_a_secret(place: str) -> bool:
    """Return whether a URL has more than scheme, host, path and a digest to compare with.

    Raises:
        ConfigError: It is no URL that could be used.
    """
    if "://" not in place:
        return False
    url = split_digest(place)[0]
    local_source(url)
    return any(sign in url for sign in "@?#;")


def site_value(params: dict[str, Any], name: str) -> str:
    """Return the form's value, else that of the Variable ``imagenet_<name>``, else nothing."""
    value = params.get(name) or Variable.get(f"imagenet_{name}", default="") or ""
    return "" if value == SKIP else str(value)


class AwsClients:
    """boto3 clients from an Airflow connection, each made when it is first asked for."""

    def __init__(self, aws_conn_id: str) -> None:
        self._aws_conn_id = aws_conn_id
        self._made: dict[tuple[str, str | None], Any] = {}

    def __call__(self, service: str, region_name: str | None = None) -> Any:
        """Return the client of a service; without a region, in that of the connection."""
        key = service, region_name
        if key not in self._made:  # each costs a third of a second
            self._made[key] = self._new(service, region_name)
        return self._made[key]

    def _new(self, service: str, region_name: str | None) -> Any:
        # The provider takes a second to import; DAG files must not pay for it.
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        from imagenet_etl.aws.client_config import client_config

        hook = AwsBaseHook(
            aws_conn_id=self._aws_conn_id, region_name=region_name, client_type=service
        )
        # What the connection says of timeouts, retries and proxies goes before what is said here.
        config = client_config(service).merge(hook.config)
        return hook.get_client_type(region_name=region_name, config=config)

    def for_workers(self) -> dict[str, Any]:
        """Return what packing processes make an S3 client of; see ``aws.worker_client``.

        It stays the same until botocore has renewed the credentials.
        """
        from imagenet_etl.aws.worker_client import worker_access

        hook, session = self._of_workers
        found = session.get_credentials()
        return worker_access(
            found.get_frozen_credentials() if found else None,
            session.region_name,
            hook.conn_config.get_service_endpoint_url("s3"),
            verify=hook.verify,
            **hook.conn_config.extra_config.get("config_kwargs") or {},
        )

    @cached_property
    def _of_workers(self) -> tuple[Any, Any]:
        """The connection and its session; another session would assume the role once more."""
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        hook = AwsBaseHook(aws_conn_id=self._aws_conn_id, client_type="s3")
        return hook, hook.get_session()
