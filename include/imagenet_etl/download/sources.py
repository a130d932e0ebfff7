"""Which archives a run takes, from where, and which splits they give."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from imagenet_etl.build import Build
from imagenet_etl.datasets import ArchiveFacts
from imagenet_etl.download.bundle import in_bundle, is_by_class
from imagenet_etl.download.urls import mask_url
from imagenet_etl.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """An archive and where it comes from: a path, or a URL that may hold a secret.

    ``stands_for`` names the archive in whose stead it is seen to, when it has no task of its own.
    """

    archive: ArchiveFacts
    place: str = field(repr=False)
    stands_for: str = ""


@dataclass(frozen=True)
class Sources:
    """What a run is made of.

    Attributes:
        archives: The archives, in the dataset's order.
        splits: The splits that are prepared, in the dataset's order.
    """

    archives: tuple[Source, ...]
    splits: tuple[str, ...]

    def of(self, archive: str) -> Source | None:
        """Return the source that an archive's own task sees to, None when another one does."""
        for source in self.archives:
            if source.archive.name == archive or archive == source.stands_for:
                return source
        return None

    def left_out(self, build: Build) -> tuple[str, ...]:
        """Return the dataset's splits that this run does without."""
        return tuple(split for split in build.facts.layout.images if split not in self.splits)


def sources_of(build: Build) -> Sources:
    """Find out what the settings' sources are by looking at them.

    Where archives of some splits alone are given, the other splits are left out. Where nothing is
    given, everything comes from the publisher.

    Raises:
        ConfigError: Sources contradict each other, a folder may be two things, or a wanted split
            is in none of them.
        SourceNotFound: The bundle's place does not exist.
    """
    facts, given = build.facts, dict(build.settings.sources)
    bundle = facts.bundle
    if bundle is None or bundle.name not in given:
        return _selected(build, given)
    place = given.pop(bundle.name)
    if facts.splits_of(given):
        raise ConfigError(
            f"both {mask_url(place)} and archives of their own are given as sources",
            found=", ".join(given),
            remedy="Give either the one that holds everything or its parts",
        )
    return _selected(build, in_bundle(build, bundle, place) | given)


def _selected(build: Build, given: dict[str, str]) -> Sources:
    """Choose the archives that the wanted splits need; what is not given is the publisher's."""
    facts, asked = build.facts, build.settings.splits
    unknown = sorted(set(asked) - set(facts.layout.images))
    if unknown:
        raise ConfigError(
            f"{facts.title} has no split {', '.join(unknown)}",
            expected=" or ".join(facts.layout.images),
        )
    held = facts.splits_of(given)
    wanted = set(asked or held or facts.layout.images)
    whole = facts.bundle is not None and facts.bundle.name in given
    asks_labels = "val" in wanted and not whole and _asks_labels(build, given)

    def is_needed(archive: ArchiveFacts) -> bool:
        if archive == facts.bundle:
            return whole
        if archive.splits:
            return not whole and not wanted.isdisjoint(archive.splits)
        # Labels: a split by class does without, where its archive alone was given.
        return archive.name in given or (not whole and (asks_labels or not held))

    sources = Sources(
        tuple(
            Source(
                archive,
                given.get(archive.name, archive.url),
                facts.archives[0].name if archive == facts.bundle else "",
            )
            for archive in facts.all_archives
            if is_needed(archive)
        ),
        tuple(split for split in facts.layout.images if split in wanted),
    )
    if sources.left_out(build):
        log.info("left out: %s", ", ".join(sources.left_out(build)))
    return sources


def _asks_labels(build: Build, given: dict[str, str]) -> bool:
    """Return whether the classes of validation images have to be looked up in a list."""
    if build.settings.label_order == "devkit":
        return True
    return not any(
        "val" in build.facts.archive(name).splits and is_by_class(build.facts, place, "val")
        for name, place in given.items()
    )
