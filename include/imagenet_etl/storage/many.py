"""Many requests to a storage at once, since each costs a bucket's latency."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from imagenet_etl.storage.base import Stat, Storage

_AT_ONCE = 32
_PAGE = 1000
"""Keys that one request lists."""
_WORTH_A_LISTING = 8
"""Below so many keys of a folder, asking for each is no slower than a listing."""

Item = TypeVar("Item")
Found = TypeVar("Found")


def stats_of(storage: Storage, keys: Iterable[str]) -> dict[str, Stat]:
    """Return size and tag of those keys that exist.

    In a bucket, folders of which many keys are asked for are listed, as far as that is cheaper
    than asking for each key.
    """
    if storage.on_disk:
        return _known((key, storage.stat(key)) for key in keys)
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        folders[key.rpartition("/")[0]].append(key)
    found: dict[str, Stat] = {}
    alone: list[str] = []
    for folder, some in folders.items():
        if len(some) < _WORTH_A_LISTING:
            alone += some
            continue
        listed, beyond = _listed(storage, folder, some)
        found |= listed
        alone += beyond
    return found | _known(zip(alone, each(storage, storage.stat, alone), strict=True))


def _listed(
    storage: Storage, folder: str, keys: Sequence[str]
) -> tuple[dict[str, Stat], list[str]]:
    """Return what a listing tells of a folder's keys, and the keys that it did not reach."""
    wanted, last = set(keys), ""
    found: dict[str, Stat] = {}
    # It is given up where too much else lies between, as below a folder with a million files.
    left = max(_PAGE, 2 * len(wanted))
    for key, stat in storage.list(folder or "."):
        if not left:
            return found, [key for key in keys if key > last]
        left, last = left - 1, key
        if key in wanted:
            found[key] = stat
    return found, []


def _known(pairs: Iterable[tuple[str, Stat | None]]) -> dict[str, Stat]:
    return {key: stat for key, stat in pairs if stat is not None}


def each(
    storage: Storage,
    work: Callable[[Item], Found],
    items: Sequence[Item],
    at_once: int = _AT_ONCE,
) -> Generator[Found, None, None]:
    """Yield what is found for each item in order: one by one on a disk, some at once in a bucket.

    Args:
        storage: Whether it is in a bucket tells which of the two.
        work: Asks, reads, writes or removes something in it.
        items: What for.
        at_once: How many results are under way or wait to be taken.

    Raises:
        Exception: What the first of them that failed raised.
    """
    if storage.on_disk or len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(min(at_once, len(items)), thread_name_prefix="many") as pool:
        left = iter(items)
        coming = deque(pool.submit(work, item) for item in islice(left, at_once))
        try:
            while coming:
                found = coming.popleft().result()
                for item in islice(left, 1):
                    coming.append(pool.submit(work, item))
                yield found
        finally:
            for future in coming:
                future.cancel()


def remove_all(storage: Storage, keys: Sequence[str]) -> None:
    """Remove objects; missing ones are no error."""
    for _ in each(storage, storage.remove, keys):
        pass
