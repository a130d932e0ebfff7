"""ILSVRC2012: the 1,000 classes of the ImageNet Large Scale Visual Recognition Challenge 2012.

Sources: URLs, sizes and MD5 as image-net.org gives them beside its download links; counts from
image-net.org/challenges/LSVRC/2012; layout of the archives from the archives themselves, that of
Kaggle's zip from kaggle.com/c/imagenet-object-localization-challenge; terms from
image-net.org/download.
"""

from __future__ import annotations

import re

from imagenet_etl.datasets.base import ArchiveFacts, DatasetFacts, Layout, Tree

_URL = "https://image-net.org/data/ILSVRC/2012/"
_WNID = r"(?P<wnid>n[0-9]{8})"
# Kaggle's zip wraps folders around the tree; an unpacked copy may be given at any depth.
_ROOT = r"(?P<root>ILSVRC/Data/CLS-LOC/|Data/CLS-LOC/|CLS-LOC/)?"
_DEVKIT = r"(?:ILSVRC2012_devkit_t12/)?"

# Bounding boxes, lists and images without labels, and what people leave in their trees.
_PASSED_OVER = (
    r"(?:ILSVRC/)?Annotations/.*",
    r"(?:ILSVRC/)?ImageSets/.*",
    r"(?:(?:(?:ILSVRC/)?Data/)?CLS-LOC/)?test/.*",
    r"LOC_(?:train_solution|sample_submission)\.csv",
    r"imagenet-object-localization-challenge\.zip",
    rf"{_DEVKIT}(?:evaluation|data/ILSVRC2012_bbox)/?.*",
    r"ILSVRC2012_(?:img_train|img_val|img_test.*|devkit_t12|bbox.*)\.(?:tar|tar\.gz|tgz)",
    r"(?:.*/)?(?:meta\.bin|valprep\.sh|\.DS_Store|Thumbs\.db)",
)

ILSVRC2012 = DatasetFacts(
    name="ilsvrc2012",
    title="ILSVRC2012",
    archives=(
        ArchiveFacts(
            name="ILSVRC2012_img_train.tar",
            url=f"{_URL}ILSVRC2012_img_train.tar",
            size=147_897_477_120,
            md5="1d675b47d978889d74fa0da5fadfb00e",
            kind="tar",
            role="train",
            splits=("train",),
        ),
        ArchiveFacts(
            name="ILSVRC2012_img_val.tar",
            url=f"{_URL}ILSVRC2012_img_val.tar",
            size=6_744_924_160,
            md5="29b22e2961454d5413ddabcf34fc5622",
            kind="tar",
            role="val",
            splits=("val",),
        ),
        ArchiveFacts(
            name="ILSVRC2012_devkit_t12.tar.gz",
            url=f"{_URL}ILSVRC2012_devkit_t12.tar.gz",
            md5="fa75699e90414af021442c21a62c3abf",
            kind="tar.gz",
            role="devkit",
            folder="ILSVRC2012_devkit_t12",
        ),
    ),
    bundle=ArchiveFacts(name="ILSVRC2012", url="", kind="", splits=("train", "val")),
    tree=Tree(
        # What tar makes of the archives in folders of their names is no tree, but no less there.
        tops=re.compile(
            r"train|val|ILSVRC|Data|CLS-LOC|n[0-9]{8}|ILSVRC2012_val_[0-9]{8}\.JPEG"
            r"|ILSVRC2012_img_(?:train|val)"
        ),
        inner=("ILSVRC/Data/CLS-LOC", "ILSVRC/Data", "ILSVRC"),
        labels="LOC_val_solution.csv",
    ),
    layout=Layout(
        images={
            # n01440764.tar/n01440764_10026.JPEG, or train/n01440764/… where it is unpacked.
            "train": re.compile(
                rf"{_ROOT}(?P<top>train/)?{_WNID}(?P<tar>\.tar)?/"
                r"(?P<file>(?P=wnid)_[0-9]{1,8}\.JPEG)"
            ),
            # Flat as published, or by class where somebody has restructured it.
            "val": re.compile(
                rf"{_ROOT}(?P<val>val/)?(?:{_WNID}/)?(?P<file>ILSVRC2012_val_[0-9]{{8}}\.JPEG)"
            ),
        },
        class_tars=re.compile(rf"{_WNID}\.tar"),
        side_files=re.compile(
            rf"{_DEVKIT}(?P<path>data/meta\.mat|data/ILSVRC2012_validation_ground_truth\.txt"
            r"|readme\.txt|COPYING|LOC_val_solution\.csv|LOC_synset_mapping\.txt)"
        ),
        passed_over=re.compile("|".join(_PASSED_OVER)),
        max_members=3_000_000,
        max_member_bytes=64 << 20,
    ),
    expected={"train": 1_281_167, "val": 50_000},
    classes=1000,
    labels="devkit",
    class_sizes={"train": (732, 1300), "val": (50, 50)},
    licence=(
        "The images belong to their photographers. ImageNet's terms of access allow "
        "non-commercial research and education only; redistribution is not allowed."
    ),
    terms_url="https://image-net.org/download",
    stages=("download", "untar", "restructure_val", "filter_classes", "plan_shards", "pack",
            "verify", "report"),
    max_pixels=64_000_000,
)  # fmt: skip
