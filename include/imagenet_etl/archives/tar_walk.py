"""From header to header through a tar.

Only the headers are read of what is large; where members are small, many come with one read, see
``windows``. See ``tar_header`` for the format.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagenet_etl.archives.listing import BATCH_MEMBERS
from imagenet_etl.archives.member import safe_name
from imagenet_etl.archives.tar_blocks import Headers
from imagenet_etl.archives.tar_header import (
    BLOCK,
    ZEROS,
    Extended,
    check_global,
    check_header,
    check_kind,
    header_name,
    max_extension,
    size_of,
)
from imagenet_etl.archives.windows import window_of
from imagenet_etl.errors import ArchiveError, BadArchive, UnsafeMember
from imagenet_etl.storage import ReadAt

_END_BYTES = 1 << 20
_AGAIN = "Download it again"
_REGULAR, _SPACE = ord("0"), ord(" ")


class TarWalk:
    """Goes from header to header and gathers those of regular files.

    Args:
        file: The open archive.
        place: What it is called in errors.
        start: Where the tar starts, in bytes.
        end: Where it ends.
        ahead: How many windows of an object in a bucket are asked for at once.
    """

    def __init__(self, file: ReadAt, place: str, start: int, end: int, ahead: int = 0) -> None:
        self._file = file
        self._place = place
        self._end = end
        self._at = start
        self._window = window_of(file, start, end, ahead)
        self._far = False  # whether the next header is likely to stand alone in its window
        self._headers = Headers()

    def headers(self) -> Iterator[Headers]:
        """Yield some thousand headers at a time."""
        going = True
        try:
            while going:
                going = self._step()
                if len(self._headers) >= BATCH_MEMBERS:
                    yield self._taken()
        except ArchiveError:
            # What came before is looked at first: trouble there may be the cause of this.
            if len(self._headers):
                yield self._taken()
            raise
        self._window.forget()  # what is left may wait long for its turn
        if len(self._headers):
            yield self._taken()

    def _taken(self) -> Headers:
        taken, self._headers = self._headers, Headers()
        return taken

    def _step(self) -> bool:
        """Go on past some usual headers, or past one rare one; return False at the tar's end."""
        before, start = len(self._headers), self._at
        if self._window.holds(start):
            usual = self._scan()
        elif self._far and self._window.hops:
            usual = self._hop()
        else:
            self._read_on()
            usual = self._scan()
        if not usual:
            block = self._block()
            if block == ZEROS:
                self._check_end()
                return False
            start = self._at
            self._rare(block)
        self._far = self._at - start >= self._window.far * max(1, len(self._headers) - before)
        if self._at > self._end:
            raise self._truncated(self._last_member())
        return True

    def _read_on(self) -> None:
        """Read a window that starts with the next header."""
        self._check_room()
        self._window.read_on(self._at, far=self._far)
        if not self._window.holds(self._at):
            raise self._truncated(f"inside the header at byte {self._at}")

    def _check_room(self) -> None:
        """Make sure that the tar does not end before the next header does."""
        if self._at == self._end:
            raise self._truncated(f"at byte {self._at}, where its end blocks should follow")
        if self._at + BLOCK > self._end:
            raise self._truncated(f"inside the header at byte {self._at}")

    def _truncated(self, where: str) -> BadArchive:
        return BadArchive(
            f"{self._place} is truncated {where}",
            found=f"its end at byte {self._end}",
            remedy=_AGAIN,
        )

    def _last_member(self) -> str:
        headers = self._headers
        row = len(headers) - 1
        name = headers.names.get(row) or header_name(headers.blocks[row])
        start = headers.offsets[row] + BLOCK
        text = name.decode("utf-8", "replace")
        return f"inside {text}, which has {headers.sizes[row]} bytes from byte {start} on"

    def _scan(self) -> bool:
        """Gather usual headers up to the window's end; return False where a rare one stands."""
        window, base = self._window.data, self._window.at
        at = self._at - base
        limit = len(window) - BLOCK
        blocks, offsets, sizes = self._headers.columns
        usual = True
        while at <= limit:
            size = _usual_size(window, at)
            if size < 0:
                usual = False
                break
            blocks.append(window[at : at + BLOCK])
            offsets.append(base + at)
            sizes.append(size)
            at += BLOCK + (size + 511 & -512)
        self._at = base + at
        return usual

    def _hop(self) -> bool:
        """Gather usual headers far from each other, each by a read of its own."""
        self._check_room()
        read_at, at, last = self._file.read_at, self._at, self._end - BLOCK
        blocks, offsets, sizes = self._headers.columns
        self._window.hopped()
        size = far = self._window.far
        while at <= last and size >= far and len(blocks) < BATCH_MEMBERS:
            block = read_at(at, BLOCK)
            size = _usual_size(block, 0) if len(block) == BLOCK else -1
            if size < 0:
                break
            blocks.append(block)
            offsets.append(at)
            sizes.append(size)
            at += BLOCK + (size + 511 & -512)
        self._at = at
        return size >= 0

    def _block(self) -> bytes:
        self._check_room()
        return self._bytes(self._at, BLOCK, BLOCK)

    def _bytes(self, at: int, size: int, least: int) -> bytes:
        """Return bytes of the window or file, ``least`` of them at least."""
        data = self._window.take(at, size)
        if len(data) < least:
            raise self._truncated(f"inside the header at byte {self._at}")
        return data

    def _check_end(self) -> None:
        """Make sure that two blocks of zeros end the tar, and that only zeros follow."""
        if self._at + 2 * BLOCK > self._end:
            raise self._truncated(f"between its two end blocks, at byte {self._at}")
        for at in range(self._at, self._end, _END_BYTES):
            size = min(_END_BYTES, self._end - at)
            block = self._window.take(at, size)
            if block.count(0) != size:
                rest = block.lstrip(b"\0")
                raise BadArchive(
                    f"{self._place} goes on after the end blocks at byte {self._at}",
                    found=f"{rest[:16]!r} at byte {at + len(block) - len(rest)}",
                    remedy=_AGAIN,
                )

    def _rare(self, block: bytes) -> None:
        """Take in extended headers with the header they belong to, or a header of rare form."""
        extended = Extended()
        while True:
            check_header(block, self._place, self._at)
            kind = block[156:157]
            if kind not in (b"L", b"K", b"x", b"g"):
                break
            extended = self._extended(extended, kind, block)
            block = self._block()
            if block == ZEROS and extended == Extended():
                return
        check_kind(block, self._place, self._at)
        declared = size_of(block, self._place, self._at)
        size = extended.size_with(declared, self._place, self._at)
        name = header_name(block) if extended.name is None else extended.name
        if kind == b"5":
            self._check_folder(name, size)
            self._at += BLOCK
            return
        headers, row = self._headers, len(self._headers)
        headers.blocks.append(block)
        headers.offsets.append(self._at)
        headers.sizes.append(size)
        if extended.name is not None:
            headers.names[row] = name
        if size != declared:
            headers.sized.add(row)
        self._at += BLOCK + (size + 511 & -512)

    def _extended(self, extended: Extended, kind: bytes, block: bytes) -> Extended:
        place, at = self._place, self._at
        size = size_of(block, place, at)
        if size > max_extension(kind):
            raise UnsafeMember(
                f"{place}: the extended header at byte {at} is too large",
                expected=f"at most {max_extension(kind):,} bytes",
                found=f"{size:,}",
            )
        after = at + BLOCK + (size + 511 & -512)
        if after > self._end:
            raise self._truncated(f"inside the extended header at byte {at}")
        data = self._bytes(at + BLOCK, size, size)
        self._at = after
        if kind == b"L":
            return extended.with_long_name(data, place, at)
        if kind == b"x":
            return extended.with_records(data, place, at)
        if kind == b"g":
            check_global(data, place, at)
        return extended

    def _check_folder(self, name: bytes, size: int) -> None:
        if size:
            raise BadArchive(
                f"{self._place}: the folder at byte {self._at} has {size} bytes", remedy=_AGAIN
            )
        plain = name.removesuffix(b"/").removeprefix(b"./")
        if plain not in (b"", b".") or name.startswith(b"/"):
            safe_name(plain, self._place)


def _usual_size(blocks: bytes, at: int) -> int:
    """Return the size in a regular file's header of the usual form, -1 for any other block."""
    kind = blocks[at + 156]
    if (kind != _REGULAR and (kind or not blocks[at])) or blocks[at + 135] > _SPACE:
        return -1
    try:
        return int(blocks[at + 124 : at + 135], 8)
    except ValueError:
        return -1
