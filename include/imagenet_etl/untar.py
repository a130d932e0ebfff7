"""Stage ``untar``: list what an archive holds, without unpacking a byte of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from imagenet_etl.archives.location import OpenArchive, archives_of, open_archive
from imagenet_etl.archives.member import Member, accepted
from imagenet_etl.archives.zip import list_zip
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import CountMismatch, UnexpectedMember
from imagenet_etl.index import INDEX, SIDE_FILES, where
from imagenet_etl.progress import metered
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import batched, write_batches


def untar(place: Place) -> Result:
    """Write ``images.parquet`` and ``side_files.parquet``.

    Raises:
        BadArchive, UnsafeMember, UnexpectedMember: The archive cannot be accepted.
        CountMismatch: It holds other numbers of images than the published ones.
    """
    build = place.build
    listing = _Listing(build.facts)
    images = place.scratch()
    with metered("untar", sum(build.facts.expected.values()), "images") as meter:

        def rows() -> Iterator[tuple[object, ...]]:
            for ref in archives_of(place.done["download"]).values():
                with open_archive(build.storage, ref) as archive:
                    for row in listing.images(archive):
                        meter.add(1)
                        yield row
                    archive.check()

        write_batches(images, INDEX, batched(rows(), INDEX))
    listing.check_counts(published=build.settings.expect == "published")
    side_files = place.scratch()
    write_batches(side_files, SIDE_FILES, batched(sorted(listing.side_files), SIDE_FILES))
    counts = {f"{split}_images": listing.found[split] for split in build.facts.layout.images}
    return Result(
        counts=counts | {"classes": len(listing.wnids)},
        outputs=(
            place.publish("images.parquet", images),
            place.publish("side_files.parquet", side_files),
        ),
        facts={"published_counts": listing.is_published()},
    )


class _Listing:
    """Sorts the members of a dataset's archives into images and side files, and counts them."""

    def __init__(self, facts: DatasetFacts) -> None:
        self._facts = facts
        self.found: Counter[str] = Counter()
        self.wnids: set[str] = set()
        self.side_files: list[tuple[object, ...]] = []

    def images(self, archive: OpenArchive) -> Iterator[tuple[object, ...]]:
        """Yield an index row for each image of one archive."""
        name = archive.ref.name
        for member in accepted(list_zip(archive.file, name), self._facts.layout, name):
            row = self._image_row(name, member)
            if row is not None:
                yield row
                continue
            side_file = self._facts.layout.side_files.fullmatch(member.name)
            if side_file is None:
                raise UnexpectedMember(
                    f"{name}: member {member.name} does not belong to {self._facts.title}",
                    remedy="Is it the right archive? Remove strange files from one of your own",
                )
            self.side_files.append((*where(name, member), side_file["path"]))

    def _image_row(self, archive: str, member: Member) -> tuple[object, ...] | None:
        for split, pattern in self._facts.layout.images.items():
            match = pattern.fullmatch(member.name)
            if match:
                wnid = match.groupdict().get("wnid")
                self.found[split] += 1
                if wnid:
                    self.wnids.add(wnid)
                return (*where(archive, member), split, wnid, match["file"])
        return None

    def is_published(self) -> bool:
        """Return whether the numbers of images and classes are the published ones."""
        return self.found == self._facts.expected and len(self.wnids) == self._facts.classes

    def check_counts(self, *, published: bool) -> None:
        """Refuse an empty archive, and one with other counts when the published ones are asked for.

        Raises:
            CountMismatch: The numbers differ.
        """
        if self.found.total() == 0:
            raise CountMismatch(
                f"{self._facts.title} archive holds no image",
                remedy="Is it the right archive? Download it again",
            )
        found = {split: self.found[split] for split in self._facts.layout.images}
        if published and not self.is_published():
            raise CountMismatch(
                f"{self._facts.title} archive holds another number of images",
                expected=f"{self._facts.expected} in {self._facts.classes} classes",
                found=f"{found} in {len(self.wnids)} classes",
                remedy="For a sample, run with --expect any",
            )
