"""Labels of Tiny ImageNet: ``wnids.txt``, ``words.txt`` and ``val/val_annotations.txt``.

A line of the annotations is ``file<TAB>wnid<TAB>x0<TAB>y0<TAB>x1<TAB>y1``; a line of the words is
``wnid<TAB>name, name, …`` for all of WordNet. Source: the archive itself.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import LabelError
from imagenet_etl.index import INDEX, ClassEntry
from imagenet_etl.labels.assign import check_classes, label_val
from imagenet_etl.labels.side_files import read_side_files
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table, write_batches

WNIDS, WORDS, ANNOTATIONS = "wnids.txt", "words.txt", "val/val_annotations.txt"
_AGAIN = "Is it the publisher's archive? Download it again"


def label_by_annotations(place: Place) -> Result:
    """Write the index again with the class of every validation image, as ``images.parquet``.

    The facts of the receipt hold ``classes``, in label order: see ``ClassEntry``.

    Raises:
        LabelError: An image has no line, a line has no image, or a class is unknown.
    """
    build, untar = place.build, place.done["untar"]
    texts = {
        path: content.decode("utf-8", "replace")
        for path, content in read_side_files(
            build, place.done["download"], untar, (WNIDS, WORDS, ANNOTATIONS)
        ).items()
    }
    wnids = parse_wnids(texts[WNIDS])
    index = read_table(build.storage, untar.key_of("images.parquet"))
    check_classes(index, wnids, WNIDS, _AGAIN)
    labels = parse_annotations(texts[ANNOTATIONS], wnids)
    labelled = label_val(index, labels, ANNOTATIONS, _AGAIN) if _has_val(index) else index
    path = place.scratch()
    write_batches(path, INDEX, [labelled])
    names = parse_words(texts[WORDS])
    return Result(
        counts={"val_labels": pc.sum(pc.equal(index["split"], "val")).as_py() or 0},
        outputs=(place.publish("images.parquet", path),),
        facts={
            "classes": [
                ClassEntry(wnid=wnid, ilsvrc_id=None, names=names.get(wnid, ""))
                for wnid in sorted(wnids)
            ]
        },
    )


def _has_val(index: pa.Table) -> bool:
    return bool(pc.any(pc.equal(index["split"], "val")).as_py())


def parse_wnids(text: str) -> set[str]:
    """Return the classes that ``wnids.txt`` names.

    Raises:
        LabelError: A line is no wnid or stands twice.
    """
    wnids: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        wnid = line.strip()
        if not wnid:
            continue
        if not WNID.fullmatch(wnid) or wnid in wnids:
            raise LabelError(
                f"{WNIDS} line {number}", expected="a new wnid", found=repr(wnid), remedy=_AGAIN
            )
        wnids.add(wnid)
    return wnids


def parse_words(text: str) -> dict[str, str]:
    """Return the names of each class, separated by commas."""
    pairs = (line.strip().split("\t", 1) for line in text.split("\n"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def parse_annotations(text: str, wnids: set[str]) -> dict[str, str]:
    """Return the class by file name.

    Raises:
        LabelError: A line is malformed, names an unknown class, or repeats a file.
    """
    labels: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) < 2 or fields[1] not in wnids or fields[0] in labels:
            raise LabelError(
                f"{ANNOTATIONS} line {number}",
                expected=f"a new file name and a wnid of {WNIDS}",
                found=repr(line[:80]),
                remedy=_AGAIN,
            )
        labels[fields[0]] = fields[1]
    return labels
