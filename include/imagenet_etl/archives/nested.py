"""What class tars hold, listed in their order without unpacking any."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from imagenet_etl.archives.class_tars import WALKERS, ClassTar, Opening, Walk, walks
from imagenet_etl.archives.listing import BATCH_MEMBERS, MEMBERS
from imagenet_etl.archives.tar_blocks import Headers, members_of
from imagenet_etl.errors import ArchiveError, BadArchive

_BATCH_BYTES = 8 << 30


@dataclass(frozen=True)
class BadTar:
    """A class tar that was left out, and why."""

    tar: ClassTar
    error: BadArchive


@dataclass(frozen=True)
class Inside:
    """Some members of class tars, in their order.

    Attributes:
        members: A table after ``listing.MEMBERS``, named ``<class tar>/<member>``; maybe empty.
        done: How many class tars are finished, those that were left out included.
        whole: Whether all members so far belong to those; else more of the next one follows, or
            trouble that ends the listing.
        bad: Class tars that were left out since the last.
    """

    members: pa.Table
    done: int
    whole: bool
    bad: tuple[BadTar, ...] = ()


def list_inside(
    tars: Iterable[ClassTar],
    opening: Opening,
    archive: str,
    *,
    tolerant: bool = False,
    at_once: int = WALKERS,
) -> Generator[Inside, None, None]:
    """Yield the members of class tars: of several small ones at a time, of a large one in parts.

    Memory does not follow the members of a class tar, unless bad ones are tolerated: then no
    member may be handed on before the walk has come to its class tar's end.

    Args:
        tars: The class tars.
        opening: Opens one of them.
        archive: The archive's name, for errors.
        tolerant: Whether a class tar that is damaged, truncated or empty is left out and told of.
        at_once: How many are walked at once.

    Raises:
        BadArchive: One is, and is not tolerated.
        UnsafeMember: A member is no regular file, or has an unsafe name.
        ArchiveChanged: A class tar is no longer the one that was listed.
    """
    lister = _Lister(archive, tolerant)
    with closing(walks(tars, opening, archive, at_once)) as walked:
        for tar, walk in walked:
            yield from lister.followed(tar, walk)
    yield from lister.flushed()


@dataclass(frozen=True)
class _Part:
    """Headers of one class tar."""

    tar: ClassTar
    stamp: int
    headers: Headers


class _Batches:
    """The headers of one class tar, up to its end or to the trouble that it ends in.

    Attributes:
        trouble: What the walk ended in; None while it goes on, and at a good end.
    """

    def __init__(self, tar: ClassTar, walk: Walk) -> None:
        self._tar = tar
        self._walk = walk
        self.trouble: ArchiveError | None = None

    def __iter__(self) -> Iterator[_Part]:
        try:
            for headers, stamp in self._walk:
                yield _Part(self._tar, stamp, headers)
        except ArchiveError as error:
            self.trouble = error


class _Lister:
    """Gathers headers of small class tars: looked at together, since each look has its cost."""

    def __init__(self, archive: str, tolerant: bool) -> None:
        self._archive = archive
        self._tolerant = tolerant
        self._parts: list[_Part] = []
        self._bad: list[BadTar] = []
        self._done = 0

    def followed(self, tar: ClassTar, walk: Walk) -> Iterator[Inside]:
        """Follow a walk to its end, and yield what is ready."""
        last: list[_Part] = []
        held: list[pa.Table] = []
        is_large = False
        batches = _Batches(tar, walk)
        for part in batches:
            last = [part]
            if len(part.headers) < BATCH_MEMBERS and not is_large:
                continue  # there is no more; the few are looked at with those of others
            is_large = True
            yield from self.flushed()
            try:
                held.append(self._together(last))
            except BadArchive as error:
                batches.trouble = error
                break
            last = []
            if not self._tolerant:
                yield Inside(held.pop(), self._done, whole=False)
        if batches.trouble is not None:
            yield from self._troubled(tar, batches.trouble, last)
            return
        self._parts += last
        self._done += 1
        for table in held:
            yield Inside(table, self._done - 1, whole=False)
        if is_large or self._is_enough():
            yield from self.flushed(at_end=True)

    def _is_enough(self) -> bool:
        rows = sum(len(part.headers) for part in self._parts)
        return rows >= BATCH_MEMBERS or sum(part.tar.size for part in self._parts) >= _BATCH_BYTES

    def _troubled(
        self, tar: ClassTar, trouble: ArchiveError, last: list[_Part]
    ) -> Iterator[Inside]:
        """Leave a class tar out, or raise its trouble when that of what came before is told."""
        if self._tolerant and isinstance(trouble, BadArchive):
            self._leave_out(tar, trouble, last)
            return
        parts, self._parts = self._parts + last, []
        if parts:
            # To be looked at, not to be kept: some of it belongs to a class tar without an end.
            yield Inside(self._members(parts), self._done, whole=False)
        raise trouble

    def _leave_out(self, tar: ClassTar, error: BadArchive, last: list[_Part]) -> None:
        """Note a bad class tar, unless what came before the trouble is worse than that."""
        with suppress(BadArchive):
            for part in last:
                self._together([part])
        self._bad.append(BadTar(tar, error))
        self._done += 1

    def flushed(self, *, at_end: bool = False) -> Iterator[Inside]:
        """Yield all that was gathered, if anything was, and forget it.

        Args:
            at_end: Whether to tell that a class tar has come to its end, even if that was all.
        """
        parts, self._parts = self._parts, []
        if not (parts or self._bad or at_end):
            return
        members = self._members(parts)
        bad, self._bad = tuple(self._bad), []
        yield Inside(members, self._done, whole=True, bad=bad)

    def _members(self, parts: list[_Part]) -> pa.Table:
        """Return the members of finished class tars, without those that turn out to be bad."""
        if not parts:
            return MEMBERS.empty_table()
        try:
            return self._together(parts)
        except ArchiveError:
            tables = [MEMBERS.empty_table()]
            for part in parts:  # to tell in which one it is
                try:
                    tables.append(self._together([part]))
                except BadArchive as error:
                    if not self._tolerant:
                        raise
                    self._bad.append(BadTar(part.tar, error))
            return pa.concat_tables(tables)

    def _together(self, parts: list[_Part]) -> pa.Table:
        together = Headers()
        for part in parts:
            together.extend(part.headers)
        rows = np.repeat(np.arange(len(parts)), [len(part.headers) for part in parts])
        names = pa.array([part.tar.name for part in parts]).take(pa.array(rows))
        stamps = np.array([part.stamp for part in parts], np.int64)[rows]
        place = self._archive if len(parts) > 1 else f"{self._archive}: {parts[0].tar.name}"
        return members_of(together, place, names, stamps)
