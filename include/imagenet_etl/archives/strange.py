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
        deeper = f"If {path.parent} holds the class tars, give that folder itself"
        return unread_class_tar(archive, members[0], deeper)
    return UnexpectedMember(
        f"{archive}: member {members[0]} does not belong to {facts.title}",
        found="" if header_at is None else f"its header at byte {header_at}",
        remedy=_remedy(_wrapper(facts, members), in_folder=header_at is None),
    )


def unread_class_tar(archive: str, member: str, remedy: str) -> UnexpectedMember:
    """Return the error for a class tar that lies where it is not looked into."""
    return UnexpectedMember(
        f"{archive}: {member} is a tar that is not looked into here",
        expected="class tars in a tar or at the top of a folder",
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
