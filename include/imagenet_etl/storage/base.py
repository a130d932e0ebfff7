"""What a stage may ask of the place where data is kept.

Keys are relative POSIX paths (``work/tiny_imagenet/untar/1f…/receipt.json``). A key that exists is
complete: nothing is ever seen half written, and nothing but small state files is ever replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from imagenet_etl.errors import ConfigError


@dataclass(frozen=True)
class Stat:
    """The size in bytes of a stored object and a tag that changes whenever its content may have.

    The tag is the mtime in nanoseconds for a file and the ETag for an object in a bucket.
    """

    size: int
    tag: str


class ReadAt(Protocol):
    """An open object that is read by position, from any thread."""

    stat: Stat

    @property
    def seek_bytes(self) -> int:
        """To read on over so many bytes costs about as much as another read elsewhere."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end of the object."""

    def blocks(self) -> Iterator[memoryview]:
        """Yield the whole content in order; each view is good until the next is asked for."""

    def will_need(self, spans: Sequence[tuple[int, int]]) -> None:
        """Hint that spans, each an offset and a size, are read soon, in about this order."""

    def current_stat(self) -> Stat | None:
        """Return what the object's name leads to now, to notice that it was replaced."""


class Storage(Protocol):
    """One folder or one bucket prefix.

    What writes or removes raises ``LeaseLost`` once another process has revoked this one's staging.
    """

    url: str
    on_disk: bool
    """Whether keys have paths on this machine; else reading costs a request each time."""

    def at(self, url: str) -> Storage:
        """Return the storage of another place of the same kind, reached in the same way.

        Raises:
            ConfigError: It is of another kind.
        """

    def stat(self, key: str) -> Stat | None:
        """Return the object's size and tag, or None when there is no such key."""

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Yield every key below the folder ``prefix`` with its size and tag.

        They come in the order of their text, as buckets list them; ``.`` is the root.
        """

    def open(self, key: str) -> AbstractContextManager[ReadAt]:
        """Open an object for reading by position.

        Raises:
            FileNotFoundError: There is no such key.
        """

    def digest(self, key: str) -> tuple[int, str] | None:
        """Return an object's size and the SHA-256 of its content in hex, which is read for it.

        None when there is no such key.
        """

    def read(self, key: str) -> bytes | None:
        """Return a whole small object, or None when there is no such key."""

    def create(self, key: str, data: bytes) -> bool:
        """Store a small object if the key is free; return False when it is taken."""

    def put(self, key: str, data: bytes) -> None:
        """Store a small state file, replacing what was there in one step."""

    def swap(self, key: str, data: bytes, seen: Stat | None) -> bool:
        """Store a small state file if its key still has what was seen there; None for nothing.

        Returns:
            Whether it was stored; False when somebody else has written it meanwhile.
        """

    def publish(self, key: str, path: Path) -> Stat:
        """Give a finished local file its key; the local file is consumed.

        Args:
            key: The final name.
            path: A file in ``staging()``.

        Raises:
            KeyExists: The key is taken; nothing was changed.
        """

    def place(self, key: str, path: Path) -> None:
        """Move one of many small files into a working folder, over a dead predecessor's.

        ``flush`` must follow before it counts as done, and raises what went wrong meanwhile.
        """

    def publish_tree(self, source: str, target: str, mark: str) -> None:
        """Move everything below ``source`` to ``target``; the object ``mark`` appears last.

        A target without its mark counts as absent: its writer died, and what it left is removed
        where a folder cannot be moved in one step.

        Raises:
            KeyExists: ``target`` is there already; nothing was changed.
            FileNotFoundError: There is no mark below ``source``.
            LeaseLost: Another run has moved, removed or replaced ``source`` meanwhile.
        """

    def flush(self, prefix: str) -> None:
        """Force everything published below ``prefix`` to stable storage."""

    def delete(self, prefix: str) -> None:
        """Remove a key, or everything below it; a missing one is no error."""

    def remove(self, key: str) -> None:
        """Remove an object; a missing one is no error. In a bucket it costs one request."""

    def staging(self) -> Path:
        """Return this process's own local folder, from which ``publish`` is cheap."""

    def staging_name(self) -> str:
        """Return the name of this process's folder, by which others can ``revoke`` it.

        Who has a folder first, and looks for its lease then, sees that the lease is lost, or can
        still be stopped.

        Returns:
            The name; nothing where a write that is under way cannot be stopped.

        Raises:
            LeaseLost: It was revoked.
        """

    def revoke(self, stagings: Iterable[str]) -> None:
        """Stop the writes of other processes; those that have ended and one's own name pass."""

    def keep_staging_alive(self) -> None:
        """Tell other hosts that this process still works in its staging folder."""

    def sweep_staging(self) -> int:
        """Remove the staging folders of dead processes; return how many there were."""

    def clear_staging(self) -> None:
        """Remove what is left in this process's staging folder."""

    def close_staging(self) -> None:
        """Remove this process's staging folder."""

    def check_space(self, needed_bytes: int, needed_files: int) -> None:
        """Refuse early when there is no room.

        Raises:
            NotEnoughSpace: Too few bytes or inodes are free.
        """

    def local_path(self, key: str) -> Path | None:
        """Return where the key lies on this machine, or None when only a bucket holds it."""


_ODD = {"", ".", ".."}


def checked_key(key: str) -> str:
    """Return ``key``, without needless dots and slashes, if it is a plain relative path.

    Raises:
        ConfigError: It is absolute, names the root itself, or climbs out of it.
    """
    prefix = checked_prefix(key)
    if not prefix:
        raise ConfigError(f"{key!r} is not a storage key", expected="a relative path without ..")
    return prefix


def checked_prefix(prefix: str) -> str:
    """Return a folder's key; that of the root, ``.``, becomes an empty text.

    Raises:
        ConfigError: It is absolute, empty, or climbs out of the root.
    """
    if "\0" not in prefix and not _ODD & set(prefix.split("/")):
        return prefix
    path = PurePosixPath(prefix)
    if not prefix or path.is_absolute() or ".." in path.parts or "\0" in prefix:
        raise ConfigError(f"{prefix!r} is not a storage key", expected="a relative path without ..")
    return "/".join(path.parts)
