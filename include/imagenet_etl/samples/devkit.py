"""Write the development kit of a sample of ILSVRC2012, as ``labels.devkit`` reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count, islice

from imagenet_etl.labels.devkit import GROUND_TRUTH, META, Synset
from imagenet_etl.samples.mat import Field, write_structs

ROOT = "ILSVRC2012_devkit_t12"
_README = """\
A miniature development kit in the layout of ILSVRC2012's, made for tests.

data/meta.mat: the classes with their ids from 1, and the synsets above them.
data/ILSVRC2012_validation_ground_truth.txt: line n is the id of validation image n.
"""
_COPYING = "These files are made up and hold nothing of the official kit.\n"
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
    rows: list[tuple[Field, ...]] = [
        (s.id, s.wnid, s.names, f"gloss of {s.wnid}", 0, (), 0, train_images) for s in synsets
    ]
    return write_structs("synsets", _FIELDS, [*rows, *_inner(synsets)])


def _inner(synsets: list[Synset]) -> Iterator[tuple[Field, ...]]:
    half, taken = (len(synsets) + 1) // 2, {synset.wnid for synset in synsets}
    groups = [part for part in (synsets[:half], synsets[half:]) if part]
    free = (wnid for wnid in (f"n{99_000_000 + n}" for n in count()) if wnid not in taken)
    first = len(synsets) + 1
    for number, (group, wnid) in enumerate(zip(groups, free, strict=False), first):
        ids = [synset.id for synset in group]
        yield number, wnid, f"group {number}", "some classes", len(group), ids, 1, 0
    ids = list(range(first, first + len(groups)))
    (wnid,) = islice(free, 1)
    yield first + len(groups), wnid, "entity", "all classes", len(groups), ids, 2, 0
