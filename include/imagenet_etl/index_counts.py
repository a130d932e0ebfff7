"""What the archives of a dataset turned out to hold, against what is published of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.kinds import FOLDER
from imagenet_etl.archives.layout import SideFile, Sorter
from imagenet_etl.archives.location import ArchiveRef
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import CountMismatch, UnexpectedMember

log = logging.getLogger(__name__)


class Found:
    """What the archives of a dataset hold.

    Args:
        facts: The dataset.
        splits: The wanted splits.
        max_bad_classes: How many class tars may be missing or left out.
    """

    def __init__(self, facts: DatasetFacts, splits: Sequence[str], max_bad_classes: int) -> None:
        self._facts = facts
        self._expected = {split: facts.expected[split] for split in splits}
        self.splits = splits
        self.max_bad_classes = max_bad_classes
        self.images: Counter[str] = Counter()
        self.wnids: set[str] = set()
        self.side_files: list[SideFile] = []
        self.layouts: dict[str, str] = {}
        self.bad_classes: list[dict[str, Any]] = []

    @property
    def expected_images(self) -> int:
        """The published number of images in the wanted splits; 0 where none is published."""
        return sum(self._expected.values())

    def add_archive(self, ref: ArchiveRef, sorter: Sorter) -> None:
        """Note how an archive is laid out, and what lies beside its images.

        Raises:
            UnexpectedMember: A side file was in another archive already.
        """
        layout = layout_in_words(ref.kind, sorter.forms)
        self.layouts[ref.name] = layout
        passed = f"; {sorter.passed_over:,} files are not needed" if sorter.passed_over else ""
        log.info("untar %s: %s%s", ref.name, layout, passed)
        for bad in sorter.bad.found:
            log.warning("untar %s: %s is left out: %s", ref.name, bad["path"], bad["reason"])
        self.bad_classes += sorter.bad.found
        known = {row[-1]: row[0] for row in self.side_files}
        for row in sorter.side_files:
            if row[-1] in known:
                raise UnexpectedMember(
                    f"{row[-1]} is in two places",
                    found=f"in {known[row[-1]]} and in {ref.name}",
                    remedy="Leave one of them out of the sources",
                )
        self.side_files += sorter.side_files

    def count(self, images: pa.Table) -> None:
        """Count the images of an index table by split, and note their classes."""
        for item in pc.value_counts(images["split"]).to_pylist():
            self.images[item["values"]] += item["counts"]
        self.wnids.update(pc.unique(images["wnid"].drop_null()).to_pylist())

    def counts(self, *, published: bool) -> dict[str, int]:
        """Return the counts for the receipt."""
        counts = {f"{split}_images": self.images[split] for split in self.splits}
        counts["classes"] = len(self.wnids)
        if self._facts.may_lack_classes:
            counts["bad_classes"] = len(self.bad_classes)
            counts["missing_classes"] = self._missing() if published else 0
        return counts

    def told(self) -> dict[str, Any]:
        """Return the facts for the receipt."""
        told: dict[str, Any] = {"published_counts": self.is_published(), "layouts": self.layouts}
        if self._facts.may_lack_classes:
            told["bad_classes"] = sorted(
                self.bad_classes, key=lambda row: (row["wnid"], row["path"])
            )
        return told

    def is_published(self) -> bool:
        """Return whether the numbers of images and of known classes are the published ones."""
        classes = self._facts.classes if self.wnids else 0
        return len(self.wnids) == classes and all(
            self.images[split] == number for split, number in self._expected.items() if number
        )

    def _missing(self) -> int:
        """Return how many of the published classes are neither there nor left out."""
        return max(0, self._facts.classes - len(self.wnids) - len(self.bad_classes))

    def check_counts(self, *, published: bool) -> None:
        """Refuse an empty archive, and one with other counts when the published ones are asked for.

        Raises:
            CountMismatch: The numbers differ.
        """
        if self.images.total() == 0:
            raise CountMismatch(
                f"{self._facts.title} archive holds no image",
                remedy="Is it the right archive? Download it again",
            )
        if not published or self.is_published():
            return
        lacking = self._missing() + len(self.bad_classes)
        if self.max_bad_classes and lacking > self.max_bad_classes:
            raise CountMismatch(
                f"{self._facts.title} archive lacks more classes than the run allows",
                expected=f"at most {self.max_bad_classes} (max_bad_classes)",
                found=f"{self._missing():,} missing and {len(self.bad_classes):,} bad class tars",
                remedy="Get the archive anew from its publisher, or allow more of them",
            )
        if lacking == 0 or self.max_bad_classes == 0 or self._has_too_many():
            raise self._other_number()

    def _has_too_many(self) -> bool:
        """Return whether there are more classes or images than are published."""
        return len(self.wnids) + len(self.bad_classes) > self._facts.classes or any(
            self.images[split] > number for split, number in self._expected.items() if number
        )

    def _other_number(self) -> CountMismatch:
        known = {split: number for split, number in self._expected.items() if number}
        found = {split: self.images[split] for split in self._expected}
        left_out = f", {len(self.bad_classes)} left out" if self.bad_classes else ""
        return CountMismatch(
            f"{self._facts.title} archive holds another number of images",
            expected=f"{known or 'images'} in {self._facts.classes} classes",
            found=f"{found} in {len(self.wnids)} classes{left_out}",
            remedy="For a sample, run with --expect any; for one split alone, with --split",
        )


def layout_in_words(kind: str, forms: dict[str, str]) -> str:
    """Return what an archive turned out to be.

    Args:
        kind: ``zip``, ``tar``, ``tar.gz`` or ``folder``.
        forms: What ``Sorter.forms`` found.
    """
    place = "folder" if kind == FOLDER else kind
    if forms.get("root", "").endswith("CLS-LOC/"):
        return f"Kaggle's layout in a {place}"
    if forms.get("tar"):
        return f"a {place} of class tars"
    if forms.get("top") or forms.get("val"):
        return f"an unpacked tree in a {place}"
    return f"a {place}"
