"""What the transfer asks of a server, whether it speaks HTTP or S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from imagenet_etl.download.journal import RemoteFile


class StartOver(Exception):
    """The answer cannot continue the partial file."""


class RangeRefused(StartOver):
    """The server says that there is no such range; it may be wrong, so it is to be asked again."""


@dataclass(frozen=True)
class Span:
    """A range of bytes to ask for.

    Attributes:
        at: Its first byte.
        end: The byte behind its last one; None for all the rest.
    """

    at: int
    end: int | None

    @property
    def header(self) -> str:
        """The value of ``Range`` (RFC 9110, section 14.2)."""
        return f"bytes={self.at}-" if self.end is None else f"bytes={self.at}-{self.end - 1}"


@dataclass(frozen=True)
class Answer:
    """A body that is on its way.

    Attributes:
        blocks: What arrives.
        limit: The byte of the file behind which nothing may come; None where nobody knows.
        whole: What the file is, if it comes from its first byte on whatever was asked.
        total: The file's length, where a range told it.
    """

    blocks: Iterator[bytes]
    limit: int | None
    whole: RemoteFile | None = None
    total: int | None = None


class Source(Protocol):
    """One file on a server; several threads may ask at once."""

    def begin(self) -> None:
        """Make the partial file one that can be gone on with, or empty."""

    def ask(self, span: Span | None) -> AbstractContextManager[Answer]:
        """Ask for a range of the file that was begun, or for a file.

        Raises:
            StartOver: It is no longer the file that was begun.
            RangeRefused: The server claims that it does not have the range.
            TransientAnswer: Asking again may help.
        """
