"""Say of a member that does not belong to its dataset what it may be, and the way out."""

from __future__ import annotations

from pathlib import PurePosixPath

from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.errors import UnexpectedMember

_MAX_WRAPPERS = 3


def strange_member(
    facts: DatasetFacts, archive: str, members: list[str], *, header_at: int | None
) -> UnexpectedMember:
    """Return the error for a member that does not belong to a dataset.

    Args:
        facts: The dataset.
        archive: The archive's name.
        members: Names of members that are no images; the first is the strange one.
        header_at: Byte of its header in the archive, None for a file of a folder.
    """
    path = PurePosixPath(members[0])
    class_tars = facts.layout.class_tars
    if class_tars is not None and header_at is None and class_tars.fullmatch(path.name):
        return unread_class_tar(facts, archive, members[0], in_folder=True)
    return UnexpectedMember(
        f"{archive}: member {members[0]} does not belong to {facts.title}",
        found="" if header_at is None else f"its header at byte {header_at}",
        remedy=_remedy(_wrapper(facts, members), in_folder=header_at is None),
    )


def unread_class_tar(
    facts: DatasetFacts, archive: str, member: str, *, in_folder: bool
) -> UnexpectedMember:
    """Return the error for a class tar that lies where it is not looked into."""
    remedy = "Unpack the class tars, or give the outer tar"
    if in_folder:
        outer = next(a.name for a in facts.archives if a.splits)
        inside = (PurePosixPath("FOLDER") / member).parent
        remedy = f"The outer tar is what tar cf {outer} -C {inside} . makes. {remedy}"
    return UnexpectedMember(
        f"{archive}: {member} is a tar that is not looked into here",
        expected="class tars in a tar only",
        remedy=remedy,
    )


def _remedy(wrapper: str, *, in_folder: bool) -> str:
    if not wrapper:
        return "Is it the right archive? Remove strange files from one of your own"
    if in_folder:
        return f"If {wrapper} is the dataset, give that subfolder; else move it elsewhere"
    return f"If {wrapper} is the dataset, unpack the archive and give that folder"


def _wrapper(facts: DatasetFacts, members: list[str]) -> str:
    """Return the folder below which names would belong to the dataset, empty for none."""
    patterns = facts.layout.images.values()
    for member in members:
        parts = member.split("/")
        for at in range(1, min(len(parts), _MAX_WRAPPERS + 1)):
            if any(pattern.fullmatch("/".join(parts[at:])) for pattern in patterns):
                return "/".join(parts[:at])
    return ""
