"""What the DAG files have in common."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from imagenet_etl.datasets import DatasetFacts
from imagenet_operators.pods import executor_config

NETWORK_QUEUE = os.environ.get("IMAGENET_QUEUE_NETWORK") or "network"
"""The queue of what waits for a server: downloads, backups, calls to AWS."""

CPU_QUEUE = os.environ.get("IMAGENET_QUEUE_CPU") or "cpu"
"""The queue of what reads, packs and checks. An executor without queues passes over both."""

RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=float(os.environ.get("IMAGENET_RETRY_DELAY_S") or 30)),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=2),
}
"""Only transient errors are retried; terminal ones fail the task at once."""

CALLING: dict[str, Any] = {"queue": NETWORK_QUEUE, "executor_config": executor_config("network")}
"""What calls AWS and moves little; what takes hours there is waited for without a worker."""

FETCHING: dict[str, Any] = CALLING | {"pool": "network", "execution_timeout": timedelta(hours=12)}
"""Downloads and backups go in slices of less than half an hour. To prove the digest of a terabyte
that came in slices, to unpack it, or to send one file of that size, is one go. A connection that
stalls is noticed within a minute."""

PACKING: dict[str, Any] = {
    "queue": CPU_QUEUE,
    "pool": "cpu",
    "executor_config": executor_config("cpu"),
}
"""What takes all cores of a worker."""

WHOLE: dict[str, Any] = PACKING | {
    "executor_config": executor_config("whole"),
    "execution_timeout": timedelta(hours=12),
}
"""What joins or reads back a whole dataset. It is read back in slices, but one file, such as an
LMDB, is one go, and so is joining: 1.3 TB at 125 MB/s are three hours."""

_SMALL: dict[str, Any] = {"queue": CPU_QUEUE, "executor_config": executor_config("small")}
"""What transforms tables; as many cores as there are, but not for long."""


def defaults(facts: DatasetFacts) -> dict[str, Any]:
    """Return the ``default_args`` of a dataset's DAG.

    Tasks run when nothing before them failed: one that found nothing to do counts as done.
    """
    return RETRIES | _SMALL | {"dataset": facts.name, "trigger_rule": "none_failed"}


def schedule(facts: DatasetFacts) -> str | None:
    """Return the schedule that the site set in the environment, None for runs by hand only."""
    return os.environ.get(f"IMAGENET_SCHEDULE_{facts.name.upper()}") or None


def documentation(facts: DatasetFacts) -> str:
    """Return the DAG's page of help."""
    counts = ", ".join(f"{count:,} {split}" for split, count in facts.expected.items())
    return f"""# {facts.title}

From the publisher's archive to verified training records on disk, in S3 and in an EBS snapshot:
{counts} images in {facts.classes:,} classes.

The archive is indexed and read in place; no image becomes a loose file unless the ImageFolder
format is asked for. Every task leaves a receipt. A task whose receipt is valid is skipped, so a
rerun with nothing changed takes seconds, and a changed setting repeats only what depends on it.

**Where things are.** `<data folder>/datasets/{facts.name}/<version>/` holds the records and
`manifest.json`; `registry.json` beside the versions names the latest one.

**Site settings.** Variables `imagenet_data_dir`, `imagenet_s3_uri`, `imagenet_ebs_volume_id`, and
`imagenet_source_{facts.name}` for runs that give no source; the schedule comes from the environment
variable `IMAGENET_SCHEDULE_{facts.name.upper()}`. AWS credentials come from the connection
`aws_default`, the login at the publisher's, where it wants one, from `imagenet_default`. Pools
`network` and `cpu` bound what runs at once; queues of the same names say where, under an executor
with queues.

{_releases(facts)}**Terms.** {facts.licence} [Read them]({facts.terms_url}).
"""


def _releases(facts: DatasetFacts) -> str:
    """Return what a DAG of several datasets has to say of them."""
    if not facts.releases:
        return ""
    names = " and ".join(f"`{name}`" for name in facts.releases.values())
    return f"""**Releases.** Each is a dataset of its own, with folders, a source Variable and an
asset by its name: {names}. `IMAGENET_RELEASE` in the environment chooses for scheduled runs.

"""
