"""Many small questions to a storage at once, since each costs a bucket's latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from imagenet_etl.storage.base import Stat, Storage

_AT_ONCE = 32
_WORTH_A_LISTING = 8
"""A listing tells of a thousand keys; below so many of a folder, asking for each is no slower."""

Item = TypeVar("Item")
Found = TypeVar("Found")


def stats_of(storage: Storage, keys: Iterable[str]) -> dict[str, Stat]:
    """Return size and tag of those keys that exist.

    In a bucket, folders of which many keys are asked for are listed. Nothing much may lie below
    them beside those keys.
    """
    if storage.on_disk:
        return _known((key, storage.stat(key)) for key in keys)
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        folders[key.rpartition("/")[0]].append(key)
    alone = [key for some in folders.values() if len(some) < _WORTH_A_LISTING for key in some]
    found = _known(zip(alone, each(storage, storage.stat, alone), strict=True))
    for folder, some in folders.items():
        if len(some) >= _WORTH_A_LISTING:
            wanted = set(some)
            listed = storage.list(folder or ".")
            found |= {key: stat for key, stat in listed if key in wanted}
    return found


def _known(pairs: Iterable[tuple[str, Stat | None]]) -> dict[str, Stat]:
    return {key: stat for key, stat in pairs if stat is not None}


def each(
    storage: Storage, question: Callable[[Item], Found], items: Sequence[Item]
) -> Iterator[Found]:
    """Yield the answer for each item in order: one by one on a disk, many at once in a bucket.

    Raises:
        Exception: What the first of them that failed raised.
    """
    if storage.on_disk or len(items) < 2:
        yield from map(question, items)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), thread_name_prefix="many") as pool:
        yield from pool.map(question, items)
