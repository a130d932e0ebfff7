"""What is known of a dataset before a byte of it is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imagenet_etl.errors import ConfigError

WNID = re.compile(r"n[0-9]{8}")
"""A WordNet id: the part of speech and an eight-digit offset (WordNet 3.0)."""


@dataclass(frozen=True)
class ArchiveFacts:
    """One file at the publisher's.

    Attributes:
        name: The file's name, which is also the archive's name in settings and in the index.
        url: Where the publisher serves it; empty for a file behind a login, which has to be fetched
            by hand and given as a source.
        size: Its length in bytes.
        md5: Its published MD5 in hex, empty when none is published.
        sha256: Its published SHA-256 in hex, empty when none is published.
        kind: ``zip``, ``tar`` or ``tar.gz``; empty for whatever it turns out to be.
        role: Short name in the form: ``train``, ``val``, ``devkit``.
        splits: The splits whose images it holds; none for one that holds labels alone.
        folder: The folder that it unpacks to and that may be used in its place; empty for none.
        about_bytes: About how long it is, where no exact length is published.
    """

    name: str
    url: str
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    kind: str = "zip"
    role: str = ""
    splits: tuple[str, ...] = ()
    folder: str = ""
    about_bytes: int = 0


@dataclass(frozen=True)
class Layout:
    """Which members an archive may hold, as patterns over the whole member name.

    Patterns are matched over millions of names at once by RE2, so they keep to what it knows:
    no look-around, and a back-reference ``(?P=x)`` only to a group without groups inside.

    Attributes:
        images: A pattern by split. Its group ``file`` is the file name and ``wnid``, where present,
            the class. Any other group tells how the archive is laid out, and so has to be the same
            for all of its images.
        max_members: The most files that an archive may hold, those of class tars included.
        max_member_bytes: The largest file.
        side_files: Files kept verbatim under ``annotations/<path>``, by their group ``path``.
        passed_over: Files that are known and not needed.
        class_tars: Tars inside the tar; what they hold is named ``<class tar>/<member>``.
        max_class_tar_bytes: The largest of those.
    """

    images: dict[str, re.Pattern[str]]
    max_members: int
    max_member_bytes: int
    side_files: re.Pattern[str] | None = None
    passed_over: re.Pattern[str] | None = None
    class_tars: re.Pattern[str] | None = None
    max_class_tar_bytes: int = 16 << 30


@dataclass(frozen=True)
class Tree:
    """How an unpacked copy is told from other folders, before its files are listed.

    Attributes:
        tops: A pattern over the names of what lies at its top.
        inner: Paths of folders in it that may be given in its stead, the longest first.
        labels: The file at its top without which those lack the labels of validation images.
    """

    tops: re.Pattern[str]
    inner: tuple[str, ...]
    labels: str


@dataclass(frozen=True)
class DatasetFacts:
    """Everything fixed about a dataset.

    Attributes:
        name: The name in commands, DAG ids and paths.
        title: The name in prose.
        archives: The files it consists of.
        bundle: What holds all of them in one: an unpacked tree, or a zip by somebody else; None
            for a set that is one archive anyway.
        tree: How an unpacked copy is told; None where there is no bundle.
        layout: What those may contain.
        expected: Published number of images by split; 0 where none is published.
        classes: Published number of classes.
        labels: Where the labels of validation images come from: ``val_annotations`` as in Tiny
            ImageNet, the ``devkit`` (or what stands for it), or nowhere.
        unlabelled: Splits that are counted and left out, since nobody published their labels.
        licence: Who owns the images and what the terms allow, in a sentence.
        terms_url: Where the terms stand.
        stages: The stages that run on this machine, in order.
        max_pixels: Images above this are refused from their header.
        class_sizes: The least and the largest number of images that a class has, by split.
        defaults: Settings that differ from those of other datasets when nobody gives them.
        may_lack_classes: Whether whole class tars may be missing or quarantined, if a run allows.
        releases: The datasets that are chosen from in one form, by release; empty for none.
    """

    name: str
    title: str
    archives: tuple[ArchiveFacts, ...]
    layout: Layout
    expected: dict[str, int]
    classes: int
    licence: str
    terms_url: str
    stages: tuple[str, ...]
    labels: str = ""
    unlabelled: tuple[str, ...] = ()
    max_pixels: int = 64_000_000
    bundle: ArchiveFacts | None = None
    tree: Tree | None = None
    class_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    may_lack_classes: bool = False
    releases: dict[str, str] = field(default_factory=dict)

    def archive(self, name: str) -> ArchiveFacts:
        """Return an archive's facts by its name.

        Raises:
            ConfigError: The dataset has no such archive.
        """
        known = {archive.name: archive for archive in self.all_archives}
        if name not in known:
            raise ConfigError(
                f"{name!r} is not an archive of {self.title}", expected=" or ".join(known)
            )
        return known[name]

    def archive_at(self, place: str) -> str:
        """Return the name of the archive that a path or URL is for, by its last part.

        What is called like none of them may hold everything.
        """
        last = place.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
        if any(archive.name == last for archive in self.archives):
            return last
        return (self.bundle or self.archives[0]).name

    @property
    def all_archives(self) -> tuple[ArchiveFacts, ...]:
        """The archives, and the one that may stand for all of them."""
        return (*self.archives, self.bundle) if self.bundle else self.archives

    def splits_of(self, archives: Iterable[str]) -> tuple[str, ...]:
        """Return the splits that archives hold, given by their names, in the dataset's order."""
        held = {split for name in archives for split in self.archive(name).splits}
        return tuple(split for split in self.layout.images if split in held)
