"""How fast the archive's disk reads, at random and in order, and the hours that makes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from imagenet_etl.preflight.uncached import ALIGNED, Uncached
from imagenet_etl.shuffle import SHUFFLE_BLOCK

READ_BYTES = 110 << 10
"""An image of ILSVRC2012, about; whole blocks of ``ALIGNED`` bytes are read."""

READS, THREADS = 64, 8
SEQUENTIAL_BYTES, BLOCK_BYTES = 256 << 20, 4 << 20
LEAST_BYTES = 4 * READS * READ_BYTES
"""Of a smaller archive nothing can be told: it is in the disk's own cache by its second read."""

LIMIT_S = 1.0
"""Of each of the three measurements."""

MUCH_SLOWER, LONG_H = 3.0, 1.0


class _Place(NamedTuple):
    file: Uncached
    offset: int


@dataclass(frozen=True)
class ReadSpeed:
    """How fast a disk reads.

    Attributes:
        random_s: Seconds of a random read of ``READ_BYTES``, one after the other.
        many_per_s: Such reads a second with ``THREADS`` at once.
        sequential: Bytes a second in order.
        is_uncached: Whether the page cache was surely passed by; else figures are upper bounds.
    """

    random_s: float
    many_per_s: float
    sequential: float
    is_uncached: bool

    def reads_per_s(self, workers: int) -> float:
        """Return how many random reads a second so many workers get, at most those measured."""
        return min(max(1, workers) / self.random_s, max(self.many_per_s, 1 / self.random_s))


def measure_reads(
    paths: Sequence[Path], seed: int = 0, limit_s: float = LIMIT_S
) -> ReadSpeed | None:
    """Measure the disk that files lie on, in about three times ``limit_s``; nothing is written.

    Args:
        paths: The archive, or the largest class tars of a folder of them.
        seed: Decides the places that are read.
        limit_s: How long each measurement may take, in seconds.

    Returns:
        The speed, or None for files of less than ``LEAST_BYTES`` together.
    """
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) < LEAST_BYTES:
        return None
    files = [Uncached(path) for path in paths]
    try:
        places = _places(files, sizes, seed)
        single = _timed_reads(places[:READS], 1, limit_s)
        many = _timed_reads(places[READS:], THREADS, limit_s)
        largest = files[sizes.index(max(sizes))]
        sequential = _timed_sequence(largest, max(sizes), limit_s)
        return ReadSpeed(1 / single, many, sequential, all(file.is_direct for file in files))
    finally:
        for file in files:
            file.close()


def _places(files: Sequence[Uncached], sizes: Sequence[int], seed: int) -> list[_Place]:
    """Return distinct places for all random reads, spread over the files by their sizes."""
    slots = [size // Uncached.whole(READ_BYTES) for size in sizes]
    ends = list(accumulate(slots))
    count = min(READS * 5, ends[-1])
    found = []
    for slot in random.Random(seed).sample(range(ends[-1]), count):
        number = next(n for n, end in enumerate(ends) if slot < end)
        at = slot - (ends[number] - slots[number])
        found.append(_Place(files[number], at * Uncached.whole(READ_BYTES)))
    return found


def _timed_reads(places: Sequence[_Place], threads: int, limit_s: float) -> float:
    """Return how many reads a second so many threads get."""
    for file, offset in places:
        file.forget(offset, READ_BYTES)
    started = time.perf_counter()

    def read(mine: Sequence[_Place]) -> int:
        count = 0
        for file, offset in mine:
            file.read(offset, READ_BYTES)
            count += 1
            if time.perf_counter() - started > limit_s:
                break
        return count

    with ThreadPoolExecutor(threads) as pool:
        shares = [places[number::threads] for number in range(threads)]
        done = sum(pool.map(read, shares))
    return done / (time.perf_counter() - started)


def _timed_sequence(file: Uncached, size: int, limit_s: float) -> float:
    """Return how many bytes a second are read in order, from the file's middle on."""
    length = min(SEQUENTIAL_BYTES, size // 2)
    start = (size - length) // 2 // ALIGNED * ALIGNED
    file.forget(start, length)
    started = time.perf_counter()
    done = 0
    while done < length and time.perf_counter() - started < limit_s:
        done += file.read(start + done, BLOCK_BYTES)
    return done / (time.perf_counter() - started)


def hours(
    speed: ReadSpeed, images: int, stored: int, workers: int, block: int = SHUFFLE_BLOCK
) -> dict[str, float]:
    """Return how many hours reading all images takes, by kind of shuffle.

    Args:
        speed: Of the archive's disk.
        images: How many there are.
        stored: Their bytes.
        workers: Packing processes.
        block: How many neighbours stay together with ``blocks``.
    """
    rate = speed.reads_per_s(workers)
    in_order = stored / speed.sequential
    seconds = {
        "global": max(images / rate, in_order),  # many threads may be faster than one in order
        "blocks": images / block / rate + in_order,
        "none": in_order,
    }
    return {name: value / 3600 for name, value in seconds.items()}


def told(speed: ReadSpeed, times: dict[str, float], shuffle: str = "") -> list[str]:
    """Return what was measured as lines, with advice where the order of reading matters.

    Args:
        speed: The archive's disk.
        times: What ``hours`` gave.
        shuffle: The run's setting; advice is only given when it is ``global``.
    """
    cached = "" if speed.is_uncached else "; the cache could not be passed by, it may be slower"
    lines = [
        f"the archive's disk: a random read of {READ_BYTES >> 10} KiB takes "
        f"{speed.random_s * 1e3:.2f} ms, {speed.many_per_s:,.0f} a second with {THREADS} at once, "
        f"{speed.sequential / 1e6:,.0f} MB/s in order{cached}",
        "reading alone: " + ", ".join(f"{name} {_time(value)}" for name, value in times.items()),
    ]
    slow = times["global"] > MUCH_SLOWER * times["blocks"] and times["global"] > LONG_H
    if slow and shuffle == "global":
        lines.append(
            f"advice: this disk seeks; with --shuffle blocks reading takes "
            f"{_time(times['blocks'])} in place of {_time(times['global'])}"
        )
    return lines


def _time(value: float) -> str:
    return f"{value * 60:.1f} min" if value < 1 else f"{value:.1f} h"


def files_to_read(path: Path, count: int = 8, listed: int = 50_000) -> list[Path]:
    """Return the files that stand for an archive: itself, or the largest in a folder of them.

    Args:
        path: The archive or folder.
        count: How many files of a folder at most.
        listed: How many of its entries are looked at.
    """
    if not path.is_dir():
        return [path]
    entries = list(islice(path.iterdir(), listed))
    while len(entries) == 1 and entries[0].is_dir():  # a folder wrapped around everything
        entries = list(islice(entries[0].iterdir(), listed))
    files = [entry for entry in entries if entry.is_file()]
    return sorted(files, key=lambda file: (-file.stat().st_size, file.name))[:count]
