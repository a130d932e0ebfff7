"""Announce a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowSkipException

from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishOperator(StageOperator):
    """Enters the version into the registry and emits the dataset's asset event.

    The event's extra holds dataset, version, manifest digest, counts, paths, S3 URI and snapshots
    by region; ``snapshot_id`` is the one of the volume itself. A version that was announced before
    is not announced again: the task is skipped, after it has noted a copy that was added.

    Args:
        asset: The asset that other DAGs are scheduled on; an alias where the DAG makes one of
            several datasets, each of which is an asset by its own name.
    """

    stage = "publish"

    def __init__(self, *, asset: Asset | AssetAlias, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.asset = asset

    @property
    def is_last(self) -> bool:  # type: ignore[override]
        """Whether no task of the run follows, such as ``prune``, which gives the lock back."""
        return not self.downstream_task_ids

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish to the registry."""
        from imagenet_etl.publishing import publish_version

        with self.build(context) as build:
            announced = publish_version(build, announce=True)
        version = announced.entry["version"]
        if not announced.is_new:
            noted = "its entry was brought up to date" if announced.changed else "nothing changed"
            raise AirflowSkipException(f"Version {version} was announced before; {noted}")
        events = context["outlet_events"][self.asset]
        if isinstance(self.asset, AssetAlias):
            events.add(Asset(announced.entry["dataset"]), extra=announced.entry)
        else:
            events.extra = announced.entry
        return announced.entry
