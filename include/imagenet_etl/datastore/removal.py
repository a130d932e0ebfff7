"""Remove a version's copies, each so that a crash leaves no half of one.

A folder is renamed out of the way and then deleted; a backup loses its commit mark first. Removing
what is gone already does nothing, so a run that died is finished by the next. What is not this very
content is never touched, whatever name it bears.
"""

from __future__ import annotations

from itertools import islice

from botocore.exceptions import ClientError

from imagenet_etl.aws.errors import code_of, typed_aws_errors
from imagenet_etl.aws.s3_layout import BackupPlace
from imagenet_etl.datastore.adopted import remove_manifest
from imagenet_etl.datastore.catalog import Entry
from imagenet_etl.datastore.copies import (
    backup_digest,
    backup_of,
    folder_digest,
    is_removing,
    is_rest,
    objects_of,
    snapshots_of,
)
from imagenet_etl.datastore.store import Datastore
from imagenet_etl.errors import CloudError
from imagenet_etl.manifest import MANIFEST
from imagenet_etl.storage import Storage

_BATCH = 1000  # Amazon S3 API Reference, DeleteObjects
_IN_USE, _GONE = "InvalidSnapshot.InUse", "InvalidSnapshot.NotFound"


def remove_folder(store: Datastore, version: str, entry: Entry) -> str:
    """Remove a version's own folder; of an adopted tree only the manifest that was made of it.

    Returns:
        Why a folder of its name stays; empty when none does.
    """
    storage, folder = store.storage, store.folder(version)
    aside = f"work/{store.dataset}/removed/{version}"
    digest = folder_digest(store, version, entry)
    is_ours = digest == entry["manifest_sha256"] or (not digest and is_rest(store, version, entry))
    if entry.get("adopted"):
        stays = _remove_adopted(storage, (aside, folder) if is_ours else (aside,))
        return stays or ("" if is_ours else _told_of_other(storage, folder))
    storage.delete(aside)
    if not is_ours:
        return _told_of_other(storage, folder)
    if digest and storage.on_disk:
        storage.publish_tree(folder, aside, MANIFEST)
    elif digest:  # without its mark it counts as absent at once, and nothing need be copied
        storage.delete(f"{folder}/{MANIFEST}")
    storage.delete(folder)
    storage.delete(aside)
    return ""


def _told_of_other(storage: Storage, folder: str) -> str:
    is_nothing = next(iter(storage.list(folder)), None) is None
    return "" if is_nothing else f"{storage.url}/{folder} is not what the entry tells of"


def _remove_adopted(storage: Storage, folders: tuple[str, ...]) -> str:
    stay = [f"{storage.url}/{folder}" for folder in folders if remove_manifest(storage, folder)]
    return f"{' and '.join(stay)} holds files that are not ours, which stay" if stay else ""


def remove_backup(store: Datastore, version: str, entry: Entry, uri: str) -> str:
    """Remove a version from the bucket: its commit mark first, then the rest in batches.

    The bucket's catalog has to say that this content is being removed, since that is what keeps
    backups of other machines away. It is asked again before every batch.

    Returns:
        Why a backup of its name stays; empty when none does.

    Raises:
        CloudError, CloudUnavailable: S3 refuses or fails, or somebody began to use the name.
    """
    place, client = backup_of(store, version, uri), store.client("s3")
    below = place.version(version)
    if not is_removing(store, place, version, entry):
        other = backup_digest(store, place, version)
        return f"{uri} is not what the entry tells of" if other else ""
    if digest := backup_digest(store, place, version):
        if digest != entry["manifest_sha256"]:
            return f"{uri} is not what the entry tells of"
        with typed_aws_errors("DeleteObject", place.uri(below)):
            client.delete_object(Bucket=place.bucket, Key=f"{below}/{MANIFEST}")
    keys = (item["Key"] for item in objects_of(client, place, version))
    while batch := list(islice(keys, _BATCH)):
        _check_unused(store, place, version, entry)
        with typed_aws_errors("DeleteObjects", place.uri(below)):
            reply = client.delete_objects(
                Bucket=place.bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
        if errors := reply.get("Errors"):
            raise CloudError(
                f"{len(errors):,} objects below {place.uri(below)} could not be deleted",
                found=f"{errors[0].get('Code')} for {errors[0].get('Key')}",
                remedy="Check the role's IAM policy and the bucket's object lock, then run again",
            )
    return ""


def _check_unused(store: Datastore, place: BackupPlace, version: str, entry: Entry) -> None:
    """Refuse to go on when somebody backs the version up while it is being removed.

    Raises:
        CloudError: It has a manifest again, or its entry no longer says that it is being removed.
    """
    if backup_digest(store, place, version) or not is_removing(store, place, version, entry):
        raise CloudError(
            f"{place.uri(place.version(version))} was backed up again while it was being removed",
            remedy="Back it up once more: what was removed before is sent again",
        )


def remove_snapshots(store: Datastore, version: str, entry: Entry) -> dict[str, CloudError]:
    """Remove the snapshots that bear the version's tags, in every region that the entry names.

    Returns:
        An error for each that is in use, by an AMI or a share, by its id; the others are gone.

    Raises:
        CloudError, CloudUnavailable: EC2 refuses otherwise, or fails.
    """
    troubles: dict[str, CloudError] = {}
    for region in entry.get("snapshots", {}):
        ec2 = store.client("ec2", region)
        for snapshot in snapshots_of(ec2, store.dataset, version, entry):
            name = snapshot["SnapshotId"]
            try:
                with typed_aws_errors("DeleteSnapshot", name, passing=(_IN_USE, _GONE)):
                    ec2.delete_snapshot(SnapshotId=name)
            except ClientError as error:
                if code_of(error) == _IN_USE:
                    troubles[name] = _in_use(name, error)
    return troubles


def _in_use(snapshot: str, error: ClientError) -> CloudError:
    return CloudError(
        f"snapshot {snapshot} is in use and stays",
        found=error.response["Error"].get("Message", ""),
        remedy="Deregister the image that is made of it; the next prune tries again",
    )
