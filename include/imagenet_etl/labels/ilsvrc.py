"""Labels of ILSVRC2012: from the development kit, from Kaggle's lists, or from class folders."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.errors import LabelError
from imagenet_etl.index import INDEX, ClassEntry
from imagenet_etl.labels.assign import check_classes, check_once, label_val, passed_on
from imagenet_etl.labels.devkit import GROUND_TRUTH, META, parse_ground_truth, parse_meta
from imagenet_etl.labels.kaggle import (
    SYNSET_MAPPING,
    VAL_SOLUTION,
    parse_synset_mapping,
    parse_val_solution,
)
from imagenet_etl.labels.meta_bin import meta_bin
from imagenet_etl.labels.side_files import read_side_files
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table, write_batches

META_BIN = "meta.bin"
_AGAIN = (
    "Lists and images must be of one set, whole and unchanged: get what is damaged again; a part "
    "of the set needs lists of that part, or val sorted into class folders and no lists"
)
_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


@dataclass
class _Told:
    """What the publisher's lists say of classes and validation images.

    Attributes:
        source: The list that the classes come from.
        classes: Them, by wnid.
        truths: The class of each validation image by file name, by list.
    """

    source: str = ""
    classes: dict[str, ClassEntry] = field(default_factory=dict)
    truths: dict[str, dict[str, str]] = field(default_factory=dict)


def label_by_devkit(place: Place) -> Result:
    """Write the index again with the class of every validation image, as ``images.parquet``.

    Beside it lies ``meta.bin`` for torchvision, where the names of the classes are known. The facts
    of the receipt hold ``classes``, in label order: see ``ClassEntry``.

    Raises:
        LabelError: Images and labels do not match one to one, two sources of labels contradict
            each other, or the order of labels is asked of a development kit that is not there.
    """
    build = place.build
    told = _read_lists(place)
    index = read_table(build.storage, place.done["untar"].key_of("images.parquet"))
    labelled = _labelled(index, told)
    val_labels = pc.sum(pc.equal(labelled["split"], "val")).as_py() or 0
    if not val_labels and not told.classes and build.settings.label_order == "wnid":
        return passed_on(place)
    wnids = set(told.classes) or set(pc.unique(labelled["wnid"]).to_pylist())
    check_classes(labelled, wnids, told.source or "the training images", _AGAIN)
    path = place.scratch()
    write_batches(path, INDEX, [labelled])
    outputs = [place.publish("images.parquet", path)]
    if told.classes:
        meta = place.scratch()
        names = {wnid: told.classes[wnid]["names"] for wnid in sorted(wnids)}
        meta.write_bytes(meta_bin(names, _val_wnids(labelled)))
        outputs.append(place.publish(META_BIN, meta))
    return Result(
        counts={"val_labels": val_labels},
        outputs=tuple(outputs),
        facts={"classes": _in_order(wnids, told, build.settings.label_order)},
    )


def _read_lists(place: Place) -> _Told:
    texts = read_side_files(place.build, place.done["download"], place.done["untar"])
    told = _Told()
    if SYNSET_MAPPING in texts:
        names = parse_synset_mapping(_text(texts[SYNSET_MAPPING]))
        told.source = SYNSET_MAPPING
        told.classes = {w: ClassEntry(wnid=w, ilsvrc_id=None, names=n) for w, n in names.items()}
    if META in texts:
        synsets = parse_meta(texts[META])
        told.source = META
        told.classes = {
            s.wnid: ClassEntry(wnid=s.wnid, ilsvrc_id=s.id, names=s.names) for s in synsets
        }
        if GROUND_TRUTH in texts:
            wnids = parse_ground_truth(_text(texts[GROUND_TRUTH]), synsets)
            told.truths[GROUND_TRUTH] = {
                f"ILSVRC2012_val_{number:08d}.JPEG": wnid for number, wnid in enumerate(wnids, 1)
            }
    if VAL_SOLUTION in texts:
        told.truths[VAL_SOLUTION] = parse_val_solution(_text(texts[VAL_SOLUTION]))
    return told


def _labelled(index: pa.Table, told: _Told) -> pa.Table:
    """Return the index with a class for every image; whatever tells of the labels must agree."""
    is_val = pc.equal(index["split"], "val")
    if not pc.any(is_val).as_py():
        return index
    for source, labels in told.truths.items():
        index = label_val(index, labels, source, _AGAIN)  # the second compares with the first
    val = index.filter(is_val)
    if val["wnid"].null_count:
        raise LabelError(
            f"the classes of {val['wnid'].null_count:,} validation images are not known",
            expected=f"{GROUND_TRUTH} with {META}, {VAL_SOLUTION}, or folders by class",
            remedy="Give the folder that holds LOC_val_solution.csv, or the development kit: "
            f"--source {_DEVKIT}=PATH_OR_URL",
        )
    check_once(val["file_name"], _AGAIN)
    return index


def _in_order(wnids: set[str], told: _Told, order: str) -> list[ClassEntry]:
    """Return the classes in label order.

    Raises:
        LabelError: The devkit's order is asked for, and there is no devkit.
    """
    entries = [
        told.classes.get(wnid, ClassEntry(wnid=wnid, ilsvrc_id=None, names=""))
        for wnid in sorted(wnids)
    ]
    if order != "devkit":
        return entries
    if any(entry["ilsvrc_id"] is None for entry in entries):
        raise LabelError(
            "the devkit's order of labels is not known",
            expected=f"{META} of the development kit",
            found=told.source or "no list of classes",
            remedy=f"Give --source {_DEVKIT}=PATH_OR_URL, or label by wnid",
        )
    return sorted(entries, key=lambda entry: entry["ilsvrc_id"] or 0)


def _val_wnids(labelled: pa.Table) -> list[str]:
    val = labelled.filter(pc.equal(labelled["split"], "val")).sort_by("file_name")
    return [str(wnid) for wnid in val["wnid"].to_pylist()]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
