"""One run's view of one dataset: its settings, facts, storage and owner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from imagenet_etl import leases
from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.config import Settings
from imagenet_etl.datasets import DatasetFacts, facts_of
from imagenet_etl.download.login import Login
from imagenet_etl.download.urls import mask_url
from imagenet_etl.errors import (
    Cancelled,
    CloudError,
    ConfigError,
    NothingToDo,
    StageNotDone,
    StillPending,
    TransientError,
)
from imagenet_etl.files import check_schema, digest_of, pretty_json, typed_os_errors
from imagenet_etl.storage import Storage
from imagenet_etl.storage.opening import open_storage

RUN_SCHEMA = 1
# What names a build when the user gives no version: everything that decides its bytes.
_IDENTITY = ("sources", "splits", "label_order", "keep_classes", "drop_classes",
             "min_images_per_class", "val_images_per_class", "outputs", "shards", "val_shards",
             "shard_mib", "shuffle", "seed", "train_ratio", "test_ratio", "max_bad",
             "max_bad_classes", "expect")  # fmt: skip


def _no_lock() -> None:
    """Accept: without a lock there is nothing to lose."""


AwsClient = Callable[..., Any]
"""Makes a boto3 client for a service name such as ``s3``; ``region_name`` may be given."""


@dataclass(frozen=True)
class Build:
    """What every stage gets.

    Attributes:
        settings: The frozen settings.
        facts: The dataset's facts.
        storage: Where data lives.
        owner: Who holds the locks.
        aws: Makes AWS clients; only the cloud stages and what lies in buckets call for it.
        login: Returns what the publisher asks for; called when something has to be fetched.
        slice_s: How long a task may go on with what can be gone on with later, before it says
            ``StillPending``; None for as long as it takes.
        check_owner: Raises ``LeaseLost`` when another run took the version over; called before
            anything is given a final name or called done.
        check_heartbeat: Raises ``LeaseLost`` once that was noticed in the background: it costs
            nothing, and ends what would go on for hours.
        worker_aws: Returns what a worker process makes an S3 client like ``aws("s3")`` of, see
            ``aws.worker_client``; nothing where the process's environment tells it all.
    """

    settings: Settings
    facts: DatasetFacts
    storage: Storage
    owner: leases.Owner
    aws: AwsClient
    login: Callable[[], Login] = Login
    slice_s: float | None = None
    check_owner: Callable[[], None] = _no_lock
    check_heartbeat: Callable[[], None] = _no_lock
    worker_aws: Callable[[], dict[str, Any]] = dict

    def client(self, service: str, region: str = "") -> Any:
        """Return an AWS client, of another region than the connection's if one is given.

        Raises:
            CloudError, AccessDenied: Region, endpoint, profile or credentials are missing or wrong.
        """
        return made_client(self.aws, service, region)

    @property
    def work(self) -> str:
        """Key of the dataset's working folder."""
        return f"work/{self.facts.name}"

    @property
    def published(self) -> str:
        """Key of the folder that holds the published versions."""
        return f"datasets/{self.facts.name}"

    @property
    def lock_key(self) -> str:
        """Key of the lock: one for each version name, or for each set of deciding settings."""
        settings = self.settings.select(_IDENTITY)
        # A digest of a key in a URL would give a short one away to whoever tries them all.
        settings["sources"] = {name: mask_url(url) for name, url in self.settings.sources.items()}
        identity = digest_of(settings)[:12]
        version = self.settings.version
        name = f"version-{version}" if version else f"settings-{identity}"
        return f"{self.work}/locks/{name}"

    @contextmanager
    def locked(self, *, hand_on: bool = False, will_retry: bool = False) -> Iterator[Build]:
        """Own the dataset version for the block, and clean up after dead predecessors.

        Yields this build with checks that look whether it still owns the version.
        Tasks of the run that are at work at the same time keep the lock, however this block ends.

        Args:
            hand_on: On success keep the lock parked for the run's next task, else release it.
            will_retry: On a transient error keep it parked for the next try, else release it.

        Raises:
            AlreadyRunning: Another live run owns it.
        """
        with typed_os_errors(self.storage.url):
            lease = leases.acquire(self.storage, self.lock_key, self.owner, shared=True)
        keep = False
        try:
            with leases.kept_alive(self.storage, lease) as heartbeat:
                self.storage.sweep_staging()
                try:
                    yield replace(self, check_owner=lease.check, check_heartbeat=heartbeat.check)
                finally:
                    # On a full disk giving the lock back needs the room that staging takes. The
                    # folder itself stays until then: it is what others know this process by.
                    self.storage.clear_staging()
            keep = hand_on
        except (NothingToDo, StillPending):
            keep = hand_on
            raise
        except (TransientError, Cancelled):
            keep = will_retry
            raise
        finally:
            lease.release(parked=keep)
            self.storage.close_staging()


def made_client(aws: AwsClient, service: str, region: str = "") -> Any:
    """Return an AWS client.

    Raises:
        CloudError, AccessDenied: Region, endpoint, profile or credentials are missing or wrong.
    """
    with typed_aws_errors("the client", service):
        try:
            return aws(service, region_name=region) if region else aws(service)
        except ValueError as error:
            raise CloudError(
                f"no client for {service} can be made",
                found=error,
                remedy="Check region and endpoint of the AWS connection",
            ) from error


def new_build(
    settings: Settings,
    owner: leases.Owner,
    aws: AwsClient,
    login: Callable[[], Login] = Login,
    slice_s: float | None = None,
    worker_aws: Callable[[], dict[str, Any]] = dict,
) -> Build:
    """Assemble a build from settings.

    Raises:
        ConfigError: The dataset is unknown, a source names an archive it does not have, a setting
            does not apply to it, or images would be larger than any may be.
    """
    facts = facts_of(settings.dataset)
    for name in settings.sources:
        facts.archive(name)
    _check_applies(settings, facts)
    for name, spec in settings.outputs.items():
        width, height = spec.fixed_size or (0, 0)
        if width * height > facts.max_pixels:
            raise ConfigError(
                f"images of {name} would have {width}x{height} pixels",
                expected=f"at most {facts.max_pixels:,} of them",
            )
    storage = open_storage(settings.data_dir, lambda: made_client(aws, "s3"))
    return Build(settings, facts, storage, owner, aws, login, slice_s, worker_aws=worker_aws)


def _check_applies(settings: Settings, facts: DatasetFacts) -> None:
    """Refuse what this dataset cannot do before it is downloaded for days.

    Raises:
        ConfigError: A setting does not apply to it.
    """
    if settings.val_images_per_class and "split_val" not in facts.stages:
        raise ConfigError(
            f"val_images_per_class is set, and {facts.title} has validation images of its own",
            remedy="Leave it at 0",
        )
    if settings.val_images_per_class and settings.train_ratio != 1:
        raise ConfigError(
            "both val_images_per_class and train_ratio make validation images",
            expected="one of the two",
            remedy="Set val_images_per_class to 0, or leave the ratios alone",
        )
    if settings.max_bad_classes and not facts.may_lack_classes:
        raise ConfigError(
            f"max_bad_classes is set, and {facts.title} has to have all of its classes",
            remedy="Leave it at 0",
        )


def freeze_settings(
    storage: Storage, dataset: str, run: str, resolve: Callable[[], Settings]
) -> Settings:
    """Return the run's frozen settings, resolving and recording them if this call is the first.

    Args:
        storage: The data folder.
        dataset: The dataset's name.
        run: The run id.
        resolve: Called only when nothing is recorded yet.
    """
    key = _run_key(dataset, run)
    if storage.stat(key) is None:
        settings = resolve().to_json()
        record = {"schema_version": RUN_SCHEMA, "run": run, "settings": settings}
        storage.create(key, pretty_json(record))
        storage.close_staging()
    return frozen_settings(storage, dataset, run)


def frozen_settings(storage: Storage, dataset: str, run: str) -> Settings:
    """Return the settings that the run's first task recorded.

    Raises:
        StageNotDone: Nothing is recorded for this run.
    """
    key = _run_key(dataset, run)
    record = storage.read(key)
    if record is None:
        raise StageNotDone(
            f"run {run!r} has no frozen settings under {storage.url}/{key}",
            remedy="If the data folder was changed during the run, change it back; else clear the "
            "run's first task",
        )
    fields = json.loads(record)
    check_schema(key, fields["schema_version"], RUN_SCHEMA)
    return Settings.from_json(json.dumps(fields["settings"]))


def _run_key(dataset: str, run: str) -> str:
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in run)
    # Two run ids may become equal when made safe for a file name; the digest keeps them apart.
    return f"work/{dataset}/runs/{safe}-{digest_of(run)[:8]}.json"
