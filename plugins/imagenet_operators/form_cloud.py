"""The part of the trigger form that is about S3 and EBS."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from imagenet_etl.config import BACKUPS, STORAGE_CLASSES
from imagenet_etl.costs import cost_note
from imagenet_etl.datasets import DatasetFacts
from imagenet_operators.form_fields import choice, number, switch, text_field


def backup_fields(facts: DatasetFacts) -> dict[str, Param]:
    """Return what a backup, and a restore from it, take."""
    return {
        "s3_uri": text_field(
            "Backup",
            "Backup in S3",
            "As s3://bucket/prefix. Archives that it holds are fetched from there. Empty: the "
            "Variable **imagenet_s3_uri**, else no backup. **none**: no backup this time."
            f"\n\n**What it costs.** {cost_note(facts)}",
            pattern=r"^(none|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)?$",
        ),
        "back_up": Param(
            ["dataset"],
            type="array",
            items={"type": "string", "enum": list(BACKUPS)},
            examples=list(BACKUPS),
            title="What is backed up",
            section="Backup",
            description_md="**dataset**: the published version; **archives**: what it was made of, "
            "so that no machine has to ask the publisher again.",
        ),
        "from_backup": switch(
            "Backup",
            "Archives from the backup",
            "Off: the publisher is asked, though the backup may hold them.",
            default=True,
        ),
        "s3_storage_class": choice(
            "Backup", STORAGE_CLASSES, "Storage class", "Each of them answers at once."
        ),
        "s3_kms_key": text_field(
            "Backup", "KMS key of the backup", "Id, ARN or alias. Empty: the bucket's encryption."
        ),
        "s3_tags": Param(
            {},
            type=["null", "object"],
            title="Tags of the objects",
            section="Backup",
            description_md='At most ten, such as {"team": "vision"}.',
        ),
        "s3_mib_per_s": number(
            "Backup", "s3_mib_per_s", 0, "MiB a second", "That a backup may send. 0: no limit."
        ),
        "s3_connections": number(
            "Backup", "s3_connections", 10, "Requests at once", "To S3."
        ),
    }  # fmt: skip


def snapshot_fields() -> dict[str, Param]:
    """Return what a snapshot, its copies and its sharing take."""
    return {
        "ebs_volume_id": text_field(
            "Snapshot",
            "Volume to snapshot",
            "Id of the EBS volume under the data folder. Empty: the Variable "
            "**imagenet_ebs_volume_id**, else no snapshot. **none**: no snapshot this time.",
            pattern=r"^(none|vol-[0-9a-f]{8,17})?$",
        ),
        "freeze": switch(
            "Snapshot",
            "Freeze the file system",
            "While the snapshot begins, for at most a minute; the worker has to be root, and in no "
            "container. Off: what was written is flushed, which is enough while nothing else "
            "writes to the volume.",
        ),
        "snapshot_regions": _list(
            "Copies in regions", "Such as eu-central-1, one a line. Empty: no copies.",
            r"^[a-z]{2,4}(-[a-z]+)+-[0-9]$",
        ),
        "snapshot_kms_key": text_field(
            "Snapshot",
            "KMS key of the copies",
            "An alias that exists in each of the regions, or for one region an ARN. Empty: "
            "encrypted as the snapshot is.",
        ),
        "share_with": _list(
            "Share with accounts", "Ids of 12 digits, one a line; never public.", r"^[0-9]{12}$"
        ),
        "accept_licence": switch(
            "Snapshot",
            "Those accounts may have the data",
            "I have read the terms of the dataset (see Source), and they let me share it with "
            "these accounts.",
        ),
    }  # fmt: skip


def version_fields() -> dict[str, Param]:
    """Return how many versions stay."""
    return {
        "keep_versions": number(
            "Old versions",
            "keep_versions",
            0,
            "Versions to keep",
            "The newest of them; older ones go, with their backups and snapshots, and never the "
            "only one. 0: all stay.",
        ),
        "prune": switch(
            "Old versions", "Delete them", "Off: the log tells what would go, and nothing does."
        ),
    }


def _list(title: str, text: str, pattern: str) -> Param:
    items: dict[str, Any] = {"type": "string", "pattern": pattern}
    return Param(
        [], type=["null", "array"], items=items, title=title, section="Snapshot",
        description_md=text,
    )  # fmt: skip
