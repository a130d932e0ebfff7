"""Hold an archive's members against its dataset's layout: images, side files, or refused."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.archives.bad_tars import BadTars
from imagenet_etl.archives.class_tars import tars_of
from imagenet_etl.archives.listing import MEMBERS, Distinct
from imagenet_etl.archives.nested import Inside
from imagenet_etl.archives.opened import OpenArchive, OpenFolder
from imagenet_etl.archives.patterns import is_match, matches
from imagenet_etl.archives.strange import strange_member, unread_class_tar
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import BadArchive, UnexpectedMember, UnsafeMember
from imagenet_etl.index import INDEX

_MEANT = ("wnid", "file")
SideFile = tuple[object, ...]


@dataclass(frozen=True)
class Step:
    """What some members of class tars turned out to be.

    Attributes:
        images: Index rows, after ``INDEX``; maybe none.
        done: How many class tars of the archive are finished.
        whole: Whether all rows so far belong to those.
    """

    images: tuple[pa.Table, ...]
    done: int
    whole: bool


class Sorter:
    """Sorts the members of one archive into images, side files, and what is not needed.

    Args:
        facts: The dataset.
        archive: The archive's name in the index.
        held: The splits whose images it may hold; None for all.
        wanted: The splits whose images are wanted; None for all.
        max_bad_classes: How many damaged or empty class tars are left out, and noted.

    Attributes:
        side_files: What lies beside the images; complete when all of these have been taken.
        forms: How the archive turned out to be laid out: by group of the layout's patterns that
            is neither file nor class, the text that it has in every image.
        passed_over: How many members are not needed.
        class_tars: The class tars among the archive's own members, as a table after ``MEMBERS``.
        bad: The class tars that were left out.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        archive: str,
        held: Collection[str] | None = None,
        wanted: Collection[str] | None = None,
        max_bad_classes: int = 0,
    ) -> None:
        self._facts = facts
        self._layout = facts.layout
        self._archive = archive
        self._held = facts.layout.images if held is None else held
        self._wanted = facts.layout.images if wanted is None else wanted
        self._members = 0
        self._in_folder = False
        self._names = Distinct(archive)
        self.forms: dict[str, str] = {}
        self.side_files: list[SideFile] = []
        self.passed_over = 0
        self.class_tars = MEMBERS.empty_table()
        self.bad = BadTars(facts, archive, max_bad_classes)

    def images(self, archive: OpenArchive) -> Iterator[pa.Table]:
        """Yield index rows, after ``INDEX``, for all wanted images of the archive.

        Raises:
            BadArchive: The archive breaks its format.
            UnsafeMember: Too many members, or one that is too large or no regular file.
            UnexpectedMember: A member does not belong to the dataset, or two have one name.
        """
        yield from self.own_images(archive, archive.listed())
        for step in self.images_inside(archive):
            yield from step.images

    def own_images(self, archive: OpenArchive, listed: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield index rows for the archive's own members, and note its class tars; see ``images``.

        Args:
            archive: The open archive.
            listed: Its own members, as it lists them.

        Raises:
            BadArchive, UnsafeMember, UnexpectedMember: As for ``images``.
        """
        self._in_folder = isinstance(archive, OpenFolder)
        tars = [self.class_tars]
        for members in listed:
            self._check_number(members.num_rows)
            if not self._in_folder:  # where each folder's names have been compared already
                self._names.add(members)
            found, rest = self._parted(members)
            if found.num_rows and not archive.looks_into_tars:
                remedy = "Unpack the archive, but not the class tars, and give the folder"
                raise unread_class_tar(self._archive, found["member"][0].as_py(), remedy)
            self._check_sizes(found, self._layout.max_class_tar_bytes)
            tars.append(found)
            yield from self._sorted(rest)
        self._end_names()
        self.class_tars = pa.concat_tables(tars)

    def images_inside(self, archive: OpenArchive, first: int = 0) -> Generator[Step, None, None]:
        """Yield index rows for what the class tars hold; ``own_images`` has to come before.

        Args:
            archive: The open archive.
            first: How many class tars are left out, since they were listed by a run before.

        Raises:
            BadArchive, UnsafeMember, UnexpectedMember: As for ``images``.
        """
        tars = tars_of(self.class_tars.slice(first))
        with closing(archive.inside(tars, tolerant=self.bad.budget > 0)) as inside:
            try:
                for found in inside:
                    yield self._step(found, first)
            except BadArchive:
                self._names.check()  # trouble with what came before is told first
                raise
        self._end_names()

    def _step(self, found: Inside, first: int) -> Step:
        self.bad.add(found.bad)
        self._check_number(found.members.num_rows)
        self._names.add(found.members)
        images = tuple(self._sorted(found.members))
        if found.whole:
            # Their own names stand before those of their members: none can meet another's.
            self._end_names()
        return Step(images, first + found.done, found.whole)

    def state(self) -> dict[str, Any]:
        """Return what was found so far, JSON-ready, for ``go_on_from``."""
        return {
            "members": self._members,
            "forms": self.forms,
            "side_files": [list(row) for row in self.side_files],
            "passed_over": self.passed_over,
            "bad_classes": self.bad.found,
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Take over what another sorter of the same archive had found after some class tars.

        Raises:
            BadArchive: It had left out more of them than are allowed here.
        """
        self._members, self.passed_over = state["members"], state["passed_over"]
        self.forms = dict(state["forms"])
        self.side_files = [tuple(row) for row in state["side_files"]]
        self.bad.go_on_from(state["bad_classes"])

    def _end_names(self) -> None:
        self._names.check()
        self._names = Distinct(self._archive)

    def _check_number(self, more: int) -> None:
        self._members += more
        if self._members > self._layout.max_members:
            raise UnsafeMember(
                f"{self._archive} has too many members", expected=self._layout.max_members
            )

    def _parted(self, members: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the class tars among an archive's own members, and the others."""
        if self._layout.class_tars is None:
            return members.slice(0, 0), members
        is_tar = matches(members["member"], self._layout.class_tars).is_valid()
        return members.filter(is_tar), members.filter(pc.invert(is_tar))

    def _sorted(self, rest: pa.Table) -> Iterator[pa.Table]:
        if not rest.num_rows:
            return
        self._check_sizes(rest, self._layout.max_member_bytes)
        for split, pattern in self._layout.images.items():
            if split not in self._held:
                continue
            found = matches(rest["member"], pattern)
            is_image = found.is_valid()
            images, rest = rest.filter(is_image), rest.filter(pc.invert(is_image))
            if images.num_rows and split in self._wanted:
                yield self._index_rows(images, found.filter(is_image), split)
            elif images.num_rows:
                self.passed_over += images.num_rows
        if self._layout.passed_over is not None:
            needed = rest.filter(pc.invert(is_match(rest["member"], self._layout.passed_over)))
            self.passed_over += rest.num_rows - needed.num_rows
            rest = needed
        rows = rest.to_pylist()
        for at, row in enumerate(rows):
            path = self._kept_as(row["member"])
            if path is None:
                raise self._strange(rows[at:])
            self.side_files.append((self._archive, *(row[name] for name in MEMBERS.names), path))

    def _check_sizes(self, members: pa.Table, limit: int) -> None:
        largest = pc.max_element_wise(members["size"], members["stored_size"])
        at = pc.index(pc.greater(largest, limit), True).as_py()
        if at >= 0:
            raise UnsafeMember(
                f"{self._archive}: member {members['member'][at]} is too large",
                expected=f"at most {limit:,} bytes",
                found=f"{largest[at].as_py():,}",
            )

    def _index_rows(self, images: pa.Table, found: pa.StructArray, split: str) -> pa.Table:
        groups = {field.name: pc.struct_field(found, field.name) for field in found.type}
        for name in groups.keys() - set(_MEANT):
            self._check_form(name, groups[name])
        rows = images.num_rows
        nothing = pa.nulls(rows, pa.string())
        columns = {
            "archive": pa.repeat(self._archive, rows),
            **{name: images[name] for name in MEMBERS.names},
            "split": pa.repeat(split, rows),
            "wnid": _text_or_null(groups["wnid"]) if "wnid" in groups else nothing,
            "file_name": groups["file"],
        }
        return pa.table([columns[name] for name in INDEX.names], schema=INDEX)

    def _check_form(self, group: str, texts: pa.Array) -> None:
        """Make sure that the archive keeps to one layout, or one image could be in it twice."""
        for text in pc.unique(texts).to_pylist():
            if self.forms.setdefault(group, text) != text:
                raise UnexpectedMember(
                    f"{self._archive} mixes two layouts of {self._facts.title}",
                    found=f"{self.forms[group]!r} and {text!r} in the names of its images",
                    remedy="Is it the right archive? Give one that was not put together by hand",
                )

    def _kept_as(self, member: str) -> str | None:
        """Return the path of a side file, None for what is none."""
        match = self._layout.side_files and self._layout.side_files.fullmatch(member)
        return match["path"] if match else None

    def _strange(self, rows: list[dict[str, Any]]) -> UnexpectedMember:
        self._names.check()  # a name that differs from another in case alone is told as such
        has_header = not self._in_folder or rows[0]["offset"] > 0
        return strange_member(
            self._facts,
            self._archive,
            [row["member"] for row in rows],
            header_at=rows[0]["header_offset"] if has_header else None,
        )


def _text_or_null(texts: pa.Array) -> pa.Array:
    """Return null for the empty text, which a group that took no part has."""
    return pc.if_else(pc.equal(texts, ""), None, texts)
