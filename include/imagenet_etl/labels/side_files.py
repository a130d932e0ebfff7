"""Read the text files that lie beside the images in an archive."""

from __future__ import annotations

from operator import attrgetter

from imagenet_etl.archives.location import archives_of, open_archive
from imagenet_etl.build import Build
from imagenet_etl.errors import BadArchive, BadImage, LabelError
from imagenet_etl.index import member_of
from imagenet_etl.receipts import Receipt
from imagenet_etl.tables import read_table


def read_side_files(
    build: Build, download: Receipt, untar: Receipt, paths: tuple[str, ...] | None = None
) -> dict[str, bytes]:
    """Return the content of side files by path, all of them unless ``paths`` names some.

    Raises:
        LabelError: A named one is not in the archives.
        BadArchive: One does not match its CRC-32.
    """
    rows = read_table(build.storage, untar.key_of("side_files.parquet")).to_pylist()
    wanted = {row["path"]: row for row in rows if paths is None or row["path"] in paths}
    for path in paths or ():
        if path not in wanted:
            raise LabelError(
                f"{path} is missing from {build.facts.title}'s archive",
                remedy="Is the archive complete? Download it again",
            )
    contents: dict[str, bytes] = {}
    for name, ref in archives_of(download).items():
        mine = {path: member_of(row) for path, row in wanted.items() if row["archive"] == name}
        if not mine:
            continue
        with open_archive(build.storage, ref) as archive:
            archive.will_need(sorted(mine.values(), key=attrgetter("header_offset")))
            for path, member in mine.items():
                try:
                    contents[path] = archive.read(member)
                except BadImage as error:
                    raise BadArchive(f"{name}: {member.name}: {error.reason}") from error
            archive.check()
    return contents
