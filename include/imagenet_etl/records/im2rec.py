"""The rules by which MXNet's ``im2rec.py --list --recursive`` orders and cuts its lists.

Images are numbered in sorted order of class folder and file name; that number is the record's key.
Source: MXNet 1.9 ``tools/im2rec.py``, functions ``list_image`` and ``make_list``.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator

SEED = 100


def shuffled_order(count: int, seed: int = SEED) -> array[int]:
    """Return the numbers 0 to ``count`` - 1 in the order that ``random.shuffle`` gives them."""
    order = array("q", range(count))
    random.Random(seed).shuffle(order)
    return order


def chunk_size(count: int, chunks: int) -> int:
    """Return how many records each chunk holds; the last may hold fewer."""
    return math.ceil(count / chunks)


def ratio_slices(size: int, train_ratio: float, test_ratio: float) -> Iterator[tuple[str, slice]]:
    """Yield the list's suffix and its slice of a chunk: test first, then train, then validation.

    Where the two ratios add up to 1, training takes the remainder too; im2rec cuts both ends with
    ``int`` and loses an image of many a chunk.

    Args:
        size: The chunk size, also for a last chunk that holds fewer.
        train_ratio: Share of the training list; 1.0 makes one list without a suffix.
        test_ratio: Share of the test list.
    """
    if train_ratio == 1.0:
        yield "", slice(None)
        return
    test_end = int(size * test_ratio)
    train_end = test_end + int(size * train_ratio)
    has_rest = train_ratio + test_ratio < 1.0
    if test_ratio:
        yield "_test", slice(0, test_end)
    yield "_train", slice(test_end, train_end if has_rest else None)
    if has_rest:
        yield "_val", slice(train_end, None)
