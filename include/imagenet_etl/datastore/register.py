"""Enter a tree that somebody else made into the registry."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

from imagenet_etl.config import Settings
from imagenet_etl.datasets import DATASETS
from imagenet_etl.datastore.adopt import read_tree
from imagenet_etl.datastore.adopted import ADOPTED, FILES, AdoptedManifest
from imagenet_etl.datastore.catalog import Catalog, Entry
from imagenet_etl.datastore.disk import update_registry
from imagenet_etl.datastore.walk import resolved_tree
from imagenet_etl.errors import ConfigError, VersionConflict
from imagenet_etl.leases import Owner
from imagenet_etl.storage import Storage
from imagenet_etl.storage.local import STAGING

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OURS = ("datasets", "work", STAGING)
"""Folders of the data folder in which everything is this package's, to be removed some day."""


def register_tree(
    storage: Storage, folder: Path, name: str, owner: Owner, version: str = ""
) -> tuple[str, Entry]:
    """Adopt any tree of class folders as it stands; the same tree again changes nothing.

    Args:
        storage: The data folder whose registry gets the entry.
        folder: The tree: ``split/class/image`` or ``class/image``. Nothing in it is changed.
        name: The dataset's name, none of those that this package builds.
        owner: Who holds the registry meanwhile.
        version: The version's name; by default the first eight digits of the tree's digest.

    Returns:
        The version's name and its entry.

    Raises:
        ConfigError: Name or version cannot be used, or the tree and the folders that this package
            writes to lie in each other.
        SourceNotFound, UnexpectedMember, UnsafeMember: The tree cannot be adopted.
        VersionConflict: The version's name is taken by other content.
        SourceBusy: Another run has been holding the registry for half a minute.
    """
    _check_names(storage, name, version)
    root = resolved_tree(folder)
    if not storage.on_disk:
        raise ConfigError(
            f"a folder of this machine cannot be entered into {storage.url}",
            remedy="Others would not find it there: give a data folder on a disk",
        )
    for ours in (*_OURS, f"datasets/{name}"):
        _check_apart(root, Path(storage.url, ours))
    staged = storage.staging() / uuid.uuid4().hex
    staged.mkdir()
    manifest = read_tree(root, staged)
    version = version or manifest.tree_sha256[:8]
    _check_apart(root, Path(storage.url, "datasets", name, version))  # it may be a link
    entry: Entry = {
        "path": str(root),
        "formats": {"imagefolder": "."},
        "manifest_sha256": manifest.tree_sha256,
        "counts": manifest.counts,
        "bytes": manifest.size,
        "published_at": time.time(),
        "adopted": True,
    }

    def enter(registry: Catalog) -> Catalog:
        _check_free(registry, version, entry)
        _keep_manifest(storage, f"datasets/{name}/{version}", manifest, staged / FILES)
        return registry.with_entry(version, entry)

    registry = update_registry(storage, name, owner, enter)
    return version, dict(registry.versions[version])


def _check_names(storage: Storage, name: str, version: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name {name!r}", expected="letters, digits, dot, dash, underscore")
    if name in DATASETS:
        raise ConfigError(
            f"{name} is a dataset that this package builds",
            expected="another name",
            remedy="A tree that somebody else made of it gets a name of its own",
        )
    # One rule for versions, whoever made them.
    Settings(dataset=name, data_dir=storage.url, version=version)


def _check_apart(root: Path, ours: Path) -> None:
    """Refuse a tree that holds a folder of ours or lies in it, by whatever links.

    What is written into the tree would be taken for its own, and what lies in ours is removed.

    Raises:
        ConfigError: It is such a tree.
    """
    real = ours.resolve()
    if real.is_relative_to(root) and real != root:
        raise ConfigError(
            f"the data folder's {ours} lies in the tree {root}",
            remedy="Give another data folder: registering writes to it",
        )
    if root.is_relative_to(real):
        raise ConfigError(
            f"the tree {root} is where this package writes and removes its own files",
            expected=f"a tree outside {ours}",
            remedy="Move it out of there; elsewhere below the data folder it may well stay",
        )


def _check_free(registry: Catalog, version: str, entry: Entry) -> None:
    known = registry.versions.get(version)
    if known is not None and known["manifest_sha256"] != entry["manifest_sha256"]:
        raise VersionConflict(
            f"version {version!r} of {registry.dataset} is registered with other content",
            expected=f"tree sha256 {known['manifest_sha256']}",
            found=entry["manifest_sha256"],
            remedy="Choose another version name, or leave it out",
        )


def _keep_manifest(storage: Storage, folder: str, manifest: AdoptedManifest, table: Path) -> None:
    """Keep the tree's manifest beside the versions, its mark last; nobody else is at it.

    Raises:
        VersionConflict: Another tree's is there.
    """
    encoded = manifest.to_json()
    found = storage.read(f"{folder}/{ADOPTED}")
    if found is None:
        storage.delete(f"{folder}/{FILES}")  # of one who died before the mark
        storage.publish(f"{folder}/{FILES}", table)
        storage.create(f"{folder}/{ADOPTED}", encoded)
    elif found != encoded:
        raise VersionConflict(
            f"{storage.url}/{folder} is taken by other content",
            expected=f"tree sha256 {manifest.tree_sha256}",
            remedy="Choose another version name",
        )
