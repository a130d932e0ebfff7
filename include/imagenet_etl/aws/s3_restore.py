"""Bring a published version back from the backup, whole or not at all.

Everything is first put below ``work/<dataset>/restore/``, checked against the manifest and the
tables of loose files while it is written, and then given its name in one step. What a restore that
was killed has brought stays there, and is kept by the next one if it is still right.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imagenet_etl.aws.s3_catalog import read_catalog
from imagenet_etl.aws.s3_restore_bring import Bringing
from imagenet_etl.aws.s3_restore_file import Restorer
from imagenet_etl.aws.s3_restore_source import BackedUpVersion, loose_files, read_backed_up
from imagenet_etl.build import Build
from imagenet_etl.check.loose import check_nothing_else, total_bytes
from imagenet_etl.check.tree import Tree
from imagenet_etl.datastore.catalog import Catalog, Entry
from imagenet_etl.datastore.disk import update_registry
from imagenet_etl.download.retry import Patience
from imagenet_etl.errors import DatasetDamaged, KeyExists, VersionConflict
from imagenet_etl.files import make_folders, typed_os_errors
from imagenet_etl.manifest import MANIFEST, ManifestFile
from imagenet_etl.receipts import Output, Receipt
from imagenet_etl.records.loose import loose_files_intact

log = logging.getLogger(__name__)

__all__ = ["BackedUpVersion", "Restored", "is_restored", "read_backed_up", "restore_version"]

_TREE, _PARTS = "tree", "parts"


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes:
        path: The version's folder, or where it would be.
        files: How many files it has.
        fetched_bytes: Bytes that came from the bucket.
        kept_bytes: Bytes that an earlier, killed restore had brought.
        was_there: Whether nothing was to be done.
    """

    path: str
    files: int = 0
    fetched_bytes: int = 0
    kept_bytes: int = 0
    was_there: bool = False


def is_restored(build: Build, backed_up: BackedUpVersion) -> bool:
    """Return whether the version is there: the same manifest, and every file with its size.

    No digest is taken: ``verify`` does that.

    Raises:
        VersionConflict: Something else bears its name.
        DatasetDamaged: A file of it is missing, has another size or is none of its own.
    """
    storage, manifest = build.storage, backed_up.manifest
    final = f"{build.published}/{manifest.version}"
    found = storage.read(f"{final}/{MANIFEST}")
    if found is None and next(iter(storage.list(final)), None) is None:
        return False
    if found != backed_up.encoded:
        raise VersionConflict(
            f"{storage.url}/{final} is not what the backup holds under that name",
            expected=f"manifest {backed_up.sha256[:12]}",
            found="no manifest" if found is None else "another manifest",
            remedy="Move the folder away and restore again, or restore to another data folder",
        )
    try:
        _check_names_and_sizes(build, backed_up, Tree(storage, final))
    except DatasetDamaged as error:
        folder = storage.local_path(final)
        error.remedy = f"Remove the folder {folder} and restore again: it is never mended in place"
        raise
    return True


def restore_version(
    build: Build,
    backed_up: BackedUpVersion,
    connections: int = 10,
    patience: Callable[[], Patience] = Patience,
    **options: Any,
) -> Restored:
    """Bring a version back to ``datasets/<dataset>/<version>`` and enter it into the registry.

    Memory: some MiB a connection, and 8 bytes a loose file.

    Args:
        build: The run, which owns the version.
        backed_up: What is to be brought.
        connections: Objects, or ranges of a large one, that are asked for at once.
        patience: Makes the patience with which an object is asked for.
        options: Further fields of ``Restorer``.

    Raises:
        VersionConflict: Something else bears its name.
        DatasetDamaged: It is there, and a file of it is missing or damaged.
        BackupIncomplete, ChecksumMismatch: An object is missing, or is not what it was.
        NotEnoughSpace: There is no room for it.
        CloudError, CloudUnavailable, SourceUnavailable: S3 refuses or fails.
    """
    final = f"{build.published}/{backed_up.manifest.version}"
    path = str(build.storage.local_path(final))
    staged = f"{build.work}/restore/{backed_up.manifest.version}-{backed_up.sha256[:12]}"
    with typed_os_errors(build.storage.url):
        _sweep(build, backed_up.manifest.version, staged)
        if is_restored(build, backed_up):
            _enter(build, backed_up, final)
            build.storage.delete(staged)
            return Restored(path, was_there=True)
        parts = build.storage.local_path(f"{staged}/{_PARTS}")
        assert parts is not None
        make_folders(parts)
        prefix = backed_up.place.version(backed_up.manifest.version)
        restorer = Restorer(
            build, build.client("s3"), backed_up.place.bucket, prefix, parts, connections,
            patience, **options,
        )  # fmt: skip
        done = Bringing(build, backed_up, restorer, f"{staged}/{_TREE}").complete()
        build.check_owner()
        try:
            build.storage.publish_tree(f"{staged}/{_TREE}", final, MANIFEST)
        except KeyExists as error:
            raise VersionConflict(
                f"{path} was made by another run meanwhile", remedy="Run again to compare them"
            ) from error
        _enter(build, backed_up, final)
        build.storage.delete(staged)
    return Restored(path, done.files, done.fetched_bytes, done.kept_bytes)


def _check_names_and_sizes(build: Build, backed_up: BackedUpVersion, tree: Tree) -> None:
    """Refuse a version that lacks a file, or whose loose files are not just those of its tables.

    Raises:
        DatasetDamaged: It names the first one.
    """
    for file in backed_up.manifest.files:
        _check_size(tree, file)
    files = tuple(Output(f.name, f.size, f.sha256) for f in backed_up.manifest.files)
    receipt = Receipt("verify", "", tree.base, files, backed_up.manifest.counts)
    if not loose_files_intact(build, receipt):
        # Which one it is takes a look at each of them.
        for file in loose_files(tree, backed_up.loose):
            _check_size(tree, file)
        check_nothing_else(tree, backed_up.manifest, backed_up.loose)


def _check_size(tree: Tree, file: ManifestFile) -> None:
    stat = tree.storage.stat(tree.key(file.name))
    if stat is None or stat.size != file.size:
        found = "nothing" if stat is None else f"{stat.size:,} bytes"
        raise tree.damaged(file.name, f"{file.size:,} bytes", found)


def _sweep(build: Build, version: str, staged: str) -> None:
    """Remove what killed restores have brought of other manifests of the version.

    Only of this very version, since its lock says nothing of the restores of others.
    """
    folder = build.storage.local_path(f"{build.work}/restore")
    assert folder is not None
    for path in sorted(folder.glob(f"{glob.escape(version)}-*")):
        key = f"{build.work}/restore/{path.name}"
        if key != staged and re.fullmatch("[0-9a-f]{12}", path.name[len(version) + 1 :]):
            log.info("restore: %s is of another manifest and removed", path)
            build.storage.delete(key)


def _enter(build: Build, backed_up: BackedUpVersion, final: str) -> None:
    """Tell the registry; what the bucket's catalog knows of the version is known here, too."""
    manifest = backed_up.manifest
    tree = Tree(build.storage, final)
    loose = sum(total_bytes(tree, name) for name in backed_up.loose)
    entry: Entry = {
        "path": final,
        "formats": {name: name for name in manifest.settings["outputs"]},
        "manifest_sha256": backed_up.sha256,
        "counts": manifest.counts,
        "bytes": sum(file.size for file in manifest.files) + len(backed_up.encoded) + loose,
        "published_at": backed_up.modified,
        "s3_uri": backed_up.uri,
    }
    name, version = build.facts.name, manifest.version
    known = read_catalog(build.client("s3"), backed_up.place, name).versions.get(version, {})

    def change(registry: Catalog) -> Catalog:
        if known.get("manifest_sha256") == backed_up.sha256:
            registry = registry.with_entry(version, known)
        return registry.with_entry(version, entry)

    update_registry(build.storage, name, build.owner, change)
