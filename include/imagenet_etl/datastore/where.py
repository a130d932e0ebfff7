"""Find where a version is, for whoever wants to read it."""

from __future__ import annotations

from imagenet_etl.datastore.catalog import Catalog, Entry, backups_of
from imagenet_etl.datastore.store import place_of
from imagenet_etl.errors import ConfigError, StorageError
from imagenet_etl.storage import Storage


def split_name(text: str) -> tuple[str, str]:
    """Return dataset and version of ``NAME[@VERSION]``; without one, or as ``latest``, it is empty.

    Raises:
        ConfigError: There is no name, or nothing after the sign.
    """
    name, sign, version = text.partition("@")
    if not name or (sign and not version):
        raise ConfigError(f"{text!r} names no dataset", expected="NAME or NAME@VERSION")
    return name, "" if version == "latest" else version


def where(storage: Storage | None, catalog: Catalog, version: str = "", output: str = "") -> str:
    """Return the path of a version on this machine, or the URL of its backup.

    Args:
        storage: The data folder; None to look in the bucket alone.
        catalog: What is known of the dataset.
        version: The version's name; empty for the latest.
        output: A format, to get its folder.

    Raises:
        StorageError: There is no such version or format, or it is only elsewhere.
    """
    chosen = version or catalog.latest
    entry = catalog.versions.get(chosen)
    if entry is None:
        raise StorageError(
            f"{catalog.dataset} has no version {version!r}" if version
            else f"no version of {catalog.dataset} is registered here",
            expected=" or ".join(catalog.newest_first) if version else "",
            remedy="The command datasets lists what there is",
        )  # fmt: skip
    if entry.get("removing"):
        raise StorageError(
            f"{catalog.dataset}@{chosen} is being removed", remedy="Use another version"
        )
    below = _format_folder(catalog.dataset, chosen, entry, output)
    if (place := place_of(storage, entry)) is not None:
        return f"{place}/{below}".removesuffix("/.")
    if "s3_uri" in entry:
        return f"{entry['s3_uri']}/{below}".removesuffix("/.")
    raise _elsewhere(storage, catalog.dataset, chosen, entry)


def _format_folder(dataset: str, version: str, entry: Entry, output: str) -> str:
    if not output:
        return "."
    if output not in entry["formats"]:
        raise StorageError(
            f"{dataset}@{version} has no format {output!r}",
            expected=" or ".join(entry["formats"]),
            remedy="Prepare it in that format: what is unchanged is reused",
        )
    return str(entry["formats"][output])


def _elsewhere(storage: Storage | None, dataset: str, version: str, entry: Entry) -> StorageError:
    path = entry["path"] if storage is None else f"{storage.url}/{entry['path']}"
    path = entry["path"] if entry.get("adopted") else path
    snapshots = [
        f"snapshot {name} in {region or 'the region of the connection'}"
        for region, name in entry.get("snapshots", {}).items()
    ]
    snapshots += [
        f"other content of this name in {uri}" for uri in backups_of(entry.get("elsewhere", {}))
    ]
    return StorageError(
        f"{dataset}@{version} is registered, but {path} does not exist on this machine",
        found=", ".join(snapshots) or "no other copy",
        remedy="Mount the volume or file system that holds it, or make a volume of a snapshot",
    )
