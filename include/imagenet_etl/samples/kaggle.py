"""Write the text files of Kaggle's copy of ILSVRC2012, as ``labels.kaggle`` reads some of them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable

from PIL import Image

from imagenet_etl.labels.kaggle import SYNSET_MAPPING, VAL_SOLUTION
from imagenet_etl.samples.content import Content, SampleImage

Add = Callable[[str, bytes], None]
"""Takes a file's path below the top folder, and its content."""

_IMAGES = "ILSVRC/Data/CLS-LOC"
_BOXES = "ILSVRC/Annotations/CLS-LOC"
_LISTS = "ILSVRC/ImageSets/CLS-LOC"
_HEADER = "ImageId,PredictionString"


def write_kaggle(content: Content, add: Add) -> None:
    """Add images, boxes, lists and labels; images come one by one."""
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for image in content.files(test=True):
        folder = f"train/{image.wnid}" if image.split == "train" else image.split
        add(f"{_IMAGES}/{folder}/{image.name}", image.data)
        stem = image.name.removesuffix(".JPEG")
        path = f"{folder}/{stem}".partition("/")[2]
        lists[image.split].append(f"{path} {len(lists[image.split]) + 1}")
        if image.split == "test":
            rows["test"].append(f"{stem},{content.wnids[0]} 0 0 1 1 ")
            continue
        width, height = _size(image)
        add(f"{_BOXES}/{folder}/{stem}.xml", _box(image, width, height).encode())
        rows[image.split].append(f"{stem},{image.wnid} 0 0 {width - 1} {height - 1} ")
    _write_lists(content, rows, lists, add)


def _write_lists(
    content: Content, rows: dict[str, list[str]], lists: dict[str, list[str]], add: Add
) -> None:
    names = {synset.wnid: synset.names for synset in content.synsets}
    for file, lines in {
        f"{_LISTS}/train_cls.txt": lists["train"],
        f"{_LISTS}/train_loc.txt": lists["train"],
        f"{_LISTS}/val.txt": lists["val"],
        f"{_LISTS}/test.txt": lists["test"],
        "LOC_train_solution.csv": [_HEADER, *_mixed(rows["train"])],
        VAL_SOLUTION: [_HEADER, *_mixed(rows["val"])],
        "LOC_sample_submission.csv": [_HEADER, *rows["test"]],
        SYNSET_MAPPING: [f"{wnid} {names[wnid]}" for wnid in content.wnids],
    }.items():
        add(file, "".join(f"{line}\n" for line in lines).encode())


def _mixed(rows: Iterable[str]) -> list[str]:
    """Return the rows in no order, like Kaggle's."""
    mixed = list(rows)
    random.Random("rows").shuffle(mixed)
    return mixed


def _size(image: SampleImage) -> tuple[int, int]:
    with Image.open(io.BytesIO(image.data)) as opened:
        return opened.size


def _box(image: SampleImage, width: int, height: int) -> str:
    return (
        "<annotation>\n"
        f"\t<filename>{image.name.removesuffix('.JPEG')}</filename>\n"
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"\t<object><name>{image.wnid}</name><bndbox><xmin>0</xmin><ymin>0</ymin>"
        f"<xmax>{width - 1}</xmax><ymax>{height - 1}</ymax></bndbox></object>\n"
        "</annotation>\n"
    )
