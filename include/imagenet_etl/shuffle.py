"""The order of a split's records: im2rec's, one that spares disks that seek, or none."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from imagenet_etl.config import SEGMENT_RECORDS
from imagenet_etl.records.im2rec import shuffled_order

SHUFFLE_BLOCK = 64
"""Images that are neighbours in the archive and, shuffled by blocks, are read together."""

WINDOW = SEGMENT_RECORDS
"""Records, from a segment's start on, that blocks are scattered in and that are asked for at once.
"""


def positions_of(
    records: int, how: str, seed: int, starts: Sequence[int] = ()
) -> npt.NDArray[np.int64]:
    """Return for each key of a split the position at which its record is packed.

    Args:
        records: How many records the split has; their keys count on from 0 in the order of class
            and file name, which is nearly that of an archive.
        how: Of ``config.SHUFFLES``.
        seed: Decides the order.
        starts: The positions at which segments start, in order; they matter to blocks alone.
    """
    if how == "none":
        return np.arange(records)
    order = np.asarray(
        shuffled_order(records, seed) if how == "global" else _by_blocks(records, seed, starts)
    )
    positions = np.empty(records, np.int64)
    positions[order] = np.arange(records)
    return positions


def _by_blocks(records: int, seed: int, starts: Sequence[int]) -> array[int]:
    """Shuffle blocks of neighbours, then the records within each window of a few thousand.

    A worker asks for a window at once and so meets whole blocks, whose images lie side by side;
    only those at a window's ends are cut in two.
    """
    rng = random.Random(seed)
    blocks = list(range(0, records, SHUFFLE_BLOCK))
    rng.shuffle(blocks)
    order = array("q")
    for start in blocks:
        order.extend(range(start, min(start + SHUFFLE_BLOCK, records)))
    for start, end in pairwise([*(starts or [0]), records]):
        for at in range(start, end, WINDOW):
            window = order[at : min(at + WINDOW, end)]
            rng.shuffle(window)
            order[at : at + len(window)] = window
    return order
