"""``registry.json``: the catalog beside the data, written by one at a time."""

from __future__ import annotations

from collections.abc import Callable

from imagenet_etl import leases
from imagenet_etl.datastore.catalog import Catalog, parse_catalog
from imagenet_etl.errors import AlreadyRunning, SourceBusy
from imagenet_etl.storage import Storage

REGISTRY = "registry.json"
_WAIT_S = 30.0
_PAUSE_S = 0.2


def registry_key(dataset: str) -> str:
    """Return the key of a dataset's registry."""
    return f"datasets/{dataset}/{REGISTRY}"


def read_registry(storage: Storage, dataset: str) -> Catalog:
    """Return what the disk knows of a dataset; nothing gives an empty catalog.

    Raises:
        DatasetDamaged, SchemaTooNew: It cannot be read.
    """
    key = registry_key(dataset)
    return parse_catalog(storage.read(key), f"{storage.url}/{key}", dataset)


def update_registry(
    storage: Storage, dataset: str, owner: leases.Owner, change: Callable[[Catalog], Catalog]
) -> Catalog:
    """Change the registry while nobody else does; what changes nothing writes nothing.

    Args:
        storage: The data folder.
        dataset: The dataset's name.
        owner: Who holds the lease.
        change: Makes the new catalog of the present one.

    Returns:
        The new catalog.

    Raises:
        SourceBusy: Another run has been holding the registry for half a minute.
        DatasetDamaged, SchemaTooNew: It cannot be read.
    """
    lease = _only_writer(storage, dataset, owner)
    try:
        with leases.kept_alive(storage, lease):
            known = read_registry(storage, dataset)
            wanted = change(known)
            if wanted != known:
                lease.check()
                storage.put(registry_key(dataset), wanted.to_json())
    finally:
        lease.release()
    return wanted


def _only_writer(storage: Storage, dataset: str, owner: leases.Owner) -> leases.Lease:
    # Beside the folder of the versions' locks, where a version could be called like it.
    key = f"work/{dataset}/registry-lock"
    try:
        return leases.acquire_patiently(storage, key, owner, wait_s=_WAIT_S, pause_s=_PAUSE_S)
    except AlreadyRunning as error:
        raise SourceBusy("the registry is being written by another run") from error
