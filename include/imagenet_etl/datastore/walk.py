"""Walk a tree that somebody else made, in one order, refusing what leads out of it.

Memory: the names in the folders on the way to the file at hand, so those of the largest folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from imagenet_etl.errors import SourceNotFound, UnexpectedMember, UnsafeMember

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder takes for an image, and GIF.

Source: torchvision/datasets/folder.py, IMG_EXTENSIONS.
"""


def resolved_tree(folder: Path) -> Path:
    """Return the folder itself, whatever links lead to it.

    Raises:
        SourceNotFound: It is no folder.
    """
    real = folder.expanduser().resolve()
    if not real.is_dir():
        raise SourceNotFound(
            f"{folder} is no folder", remedy="Give the folder that holds the class folders"
        )
    return real


def files_of(root: Path, below: str = "") -> Iterator[tuple[str, str]]:
    """Yield each file's path below ``root`` and where to read it, by the order of path parts.

    Args:
        root: What ``resolved_tree`` gave.
        below: Where to begin.

    Raises:
        UnsafeMember: A link leads out of the tree or to a folder, or a file is no regular one.
        UnexpectedMember: A name is not UTF-8.
        OSError: Something cannot be read.
    """
    with os.scandir(root / below) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        _check_name(root, path)
        if entry.is_dir(follow_symlinks=False):
            yield from files_of(root, path)
            continue
        if entry.is_symlink():
            _check_link(root, path)
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise UnsafeMember(
                f"{root}/{path} is no regular file", remedy="Remove it, or adopt a folder below"
            )
        yield path, entry.path


def _check_name(root: Path, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UnexpectedMember(
            f"{root} has a name that is not UTF-8", found=ascii(path), remedy="Rename it"
        ) from error


def _check_link(root: Path, path: str) -> None:
    """Accept a link to a file of this tree, which is read in its place."""
    target = Path(os.path.realpath(root / path))
    if target.is_relative_to(root) and target.is_file():
        return
    raise UnsafeMember(
        f"{root}/{path} is a link that cannot be adopted",
        expected="a link to a file of the same tree",
        found=target,
        remedy="Replace it by what it stands for, or adopt the tree it leads to",
    )
