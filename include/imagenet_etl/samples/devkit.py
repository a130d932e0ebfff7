"""Write the development kit of a sample of ILSVRC2012, as ``labels.devkit`` reads it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any

from imagenet_etl.labels.devkit import GROUND_TRUTH, META, Synset

ROOT = "ILSVRC2012_devkit_t12"
_README = """\
A miniature development kit in the layout of ILSVRC2012's, made for tests.

data/meta.mat: the classes with their ids from 1, and the synsets above them.
data/ILSVRC2012_validation_ground_truth.txt: line n is the id of validation image n.
"""
_COPYING = "These files are made up and hold nothing of the official kit.\n"
_HEADER = b"MATLAB 5.0 MAT-file, a sample"
_HEADER_BYTES = 116
_FIELDS = (
    "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
    "num_train_images",
)  # fmt: skip


def devkit_files(
    synsets: list[Synset], val: Mapping[str, str], train_images: int
) -> dict[str, bytes]:
    """Return the kit's files by their path below ``ILSVRC2012_devkit_t12``.

    Args:
        synsets: The classes in the order of their ids.
        val: The wnid of each validation image by file name.
        train_images: Training images a class.
    """
    ids = {synset.wnid: synset.id for synset in synsets}
    lines = [f"{ids[val[name]]}\n" for name in sorted(val)]
    return {
        "readme.txt": _README.encode(),
        "COPYING": _COPYING.encode(),
        META: meta_mat(synsets, train_images),
        GROUND_TRUTH: "".join(lines).encode(),
    }


def meta_mat(synsets: list[Synset], train_images: int) -> bytes:
    """Return ``meta.mat``: the classes, and above them two groups and a root with later ids."""
    import numpy as np  # noqa: PLC0415 - slow to import
    from scipy.io import savemat  # noqa: PLC0415 - slow to import

    rows = [
        (s.id, s.wnid, s.names, f"gloss of {s.wnid}", 0, np.zeros((1, 0)), 0, train_images)
        for s in synsets
    ]
    rows += _inner(synsets, np.array)
    structs = np.zeros((len(rows), 1), [(field, object) for field in _FIELDS])
    for number, row in enumerate(rows):
        structs[number, 0] = row
    out = io.BytesIO()
    savemat(out, {"synsets": structs}, do_compression=True)
    # The header is free text; SciPy writes the platform and the date into it.
    return _HEADER.ljust(_HEADER_BYTES) + out.getvalue()[_HEADER_BYTES:]


def _inner(synsets: list[Synset], array: Any) -> Iterator[tuple[Any, ...]]:
    half, taken = (len(synsets) + 1) // 2, {synset.wnid for synset in synsets}
    groups = [part for part in (synsets[:half], synsets[half:]) if part]
    free = (wnid for wnid in (f"n{99_000_000 + n}" for n in count()) if wnid not in taken)
    first = len(synsets) + 1
    for number, (group, wnid) in enumerate(zip(groups, free, strict=False), first):
        ids = array([float(synset.id) for synset in group])
        yield number, wnid, f"group {number}", "some classes", len(group), ids, 1, 0
    ids = array([float(number) for number in range(first, first + len(groups))])
    (wnid,) = islice(free, 1)
    yield first + len(groups), wnid, "entity", "all classes", len(groups), ids, 2, 0
