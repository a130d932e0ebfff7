"""What a folder, given for all archives, turns out to be: the archives, or an unpacked tree."""

from __future__ import annotations

import logging
import os
from itertools import islice
from pathlib import Path

from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts, DatasetFacts
from imagenet_etl.datasets.base import WNID
from imagenet_etl.download.asked import check_seen_by_all
from imagenet_etl.download.urls import local_source, mask_url, split_digest
from imagenet_etl.errors import ConfigError, SourceNotFound

log = logging.getLogger(__name__)

_MAX_WRAPPERS = 2


def in_bundle(build: Build, bundle: ArchiveFacts, place: str) -> dict[str, str]:
    """Return the place of each archive that a bundle turns out to be, by name.

    Raises:
        ConfigError: A folder holds archives of some splits and a tree as well, a digest is
            demanded of a folder of archives, or the data folder is in a bucket and this is a path.
        SourceNotFound: The place does not exist.
    """
    base, sha256 = split_digest(place)
    path = local_source(base)
    if path is not None:
        check_seen_by_all(build, bundle.name, path)
    if path is None and base.endswith("/") and not build.storage.on_disk:
        return _in_bucket_folder(build, bundle, base, sha256)
    if path is None or path.is_file():
        log.info("%s is taken for all archives", mask_url(place))
        return {bundle.name: place}
    if not path.is_dir():
        raise SourceNotFound(f"{path} does not exist", remedy="Give an archive or a folder")
    # The digest is that of the listing of this very folder.
    folder = path if sha256 else _top(build, path)
    if folder != path:
        log.info("folder %s is looked into in the place of %s", folder, path)
    archives = _archives_in(build.facts, folder)
    if not _are_enough(build, folder, archives):
        beside = _beside_tree(build.facts, folder, archives)
        log.info("folder %s is taken for all archives%s", folder, _with(beside))
        return {bundle.name: place if sha256 else str(folder)} | beside
    return _named(str(folder), archives, sha256)


def _named(folder: str, archives: dict[str, str], sha256: str) -> dict[str, str]:
    """Return the archives of a folder, of which no digest can be demanded.

    Raises:
        ConfigError: One is.
    """
    if sha256:
        raise ConfigError(
            f"a digest is demanded of {folder}, which holds archives",
            found=", ".join(archives),
            remedy="Name each source with its digest, --source ARCHIVE=PLACE#sha256=HEX",
        )
    log.info("folder %s holds the archives %s", folder, ", ".join(archives))
    return archives


def _in_bucket_folder(build: Build, bundle: ArchiveFacts, base: str, sha256: str) -> dict[str, str]:
    """Return the archives below a prefix that ends in a slash; they must have their own names.

    Without any it stands for the bundle, and is refused where that is verified.
    """
    place = build.storage.at(base.rstrip("/"))
    names = [one.name for one in build.facts.archives if place.stat(one.name) is not None]
    archives = {name: f"{base}{name}" for name in names}
    if not build.facts.splits_of(archives):
        return {bundle.name: base}
    return _named(base, archives, sha256)


def _are_enough(build: Build, folder: Path, archives: dict[str, str]) -> bool:
    """Return whether the archives of a folder are what is wanted of it, and not a tree in it.

    Raises:
        ConfigError: Each of the two may hold a part.
    """
    facts = build.facts
    held, wanted = facts.splits_of(archives), build.settings.splits or tuple(facts.layout.images)
    tree = _tree_in(facts, folder)
    if not held or (tree and set(held).isdisjoint(wanted)):
        return False
    if not tree:
        return True
    if not set(wanted) <= set(held):
        images = [name for name in archives if facts.archive(name).splits]
        raise ConfigError(
            f"{folder} holds {', '.join(images)} and an unpacked tree as well",
            expected=f"one of them, or archives of {' and '.join(wanted)}",
            found=f"{', '.join(tree)} beside the archives",
            remedy="Name each source, --source ARCHIVE=PLACE, or ask for the archives' images "
            f"alone with {' '.join(f'--split {split}' for split in held)}",
        )
    log.info("folder %s: %s beside the archives is not used", folder, ", ".join(tree))
    return True


def _archives_in(facts: DatasetFacts, folder: Path) -> dict[str, str]:
    """Return the dataset's archives in a folder, by name; one without images may be unpacked.

    Links are followed: they stand in a folder of the user's own.
    """
    found = {}
    for archive in facts.archives:
        if (folder / archive.name).is_file():
            found[archive.name] = str(folder / archive.name)
        elif archive.folder and (folder / archive.folder).is_dir():
            found[archive.name] = str(folder / archive.folder)
    return found


def _beside_tree(facts: DatasetFacts, folder: Path, archives: dict[str, str]) -> dict[str, str]:
    """Return the archives that have to be given beside a tree, which lists its own folders."""
    return {
        archive.name: archives[archive.name]
        for archive in facts.archives
        if archive.name in archives
        and not archive.splits
        and not (archive.folder and (folder / archive.folder).is_dir())
    }


def _with(archives: dict[str, str]) -> str:
    return f", beside {', '.join(archives)}" if archives else ""


def _tree_in(facts: DatasetFacts, folder: Path) -> list[str]:
    """Return the names of some of what tells that an unpacked tree lies in a folder."""
    if facts.tree is None:
        return []
    with os.scandir(folder) as entries:
        return sorted(islice((e.name for e in entries if facts.tree.tops.fullmatch(e.name)), 3))


def _top(build: Build, path: Path) -> Path:
    """Return the folder that the archives or the tree begin in.

    That is one above for the inside of a tree whose labels lie further up, and one below where
    folders are wrapped around everything.
    """
    facts, folder = build.facts, path
    if facts.tree is not None and not _archives_in(facts, path):
        for inner in facts.tree.inner:
            depth = inner.count("/")
            if f"{path}".endswith(f"/{inner}") and _tells_labels(build, path.parents[depth]):
                return path.parents[depth]
    for _ in range(_MAX_WRAPPERS):
        if _is_known(facts, folder):
            return folder
        inside = _folders_in(folder)
        # Other folders beside the one that is known may be anything.
        inside = [found for found in inside if _is_known(facts, found)] or inside
        if len(inside) != 1:
            break
        folder = inside[0]
    return folder if _is_known(facts, folder) else path


def _is_known(facts: DatasetFacts, folder: Path) -> bool:
    return bool(_archives_in(facts, folder) or _tree_in(facts, folder))


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    return [path for path in found if os.access(path, os.R_OK | os.X_OK)]


def _tells_labels(build: Build, above: Path) -> bool:
    """Return whether a folder further up is needed, and better than what was given itself."""
    facts, settings = build.facts, build.settings
    others = [a.name for a in facts.archives if not a.splits and a.name in settings.sources]
    return (
        facts.tree is not None
        and "val" in (settings.splits or facts.layout.images)
        and not others
        and (above / facts.tree.labels).is_file()
        and not facts.splits_of(_archives_in(facts, above))
    )


def is_by_class(facts: DatasetFacts, place: str, split: str) -> bool:
    """Return whether a split's source is a folder of class folders, which tell the labels."""
    path = local_source(split_digest(place)[0])
    if path is None or not path.is_dir():
        return False
    if (path / split).is_dir():
        path /= split
    with os.scandir(path) as scanned:
        entries = list(scanned)
    return any(WNID.fullmatch(e.name) and e.is_dir(follow_symlinks=False) for e in entries) and all(
        e.is_dir(follow_symlinks=False) or not facts.layout.images[split].fullmatch(e.name)
        for e in entries
    )
