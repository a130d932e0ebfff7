"""Tiny ImageNet: 200 classes at 64x64, the practice ground of Stanford's CS231n.

Sources: size and MD5 of the zip as Stanford serves it, measured November 2026; layout and counts
by listing that zip; terms from image-net.org/download, since the images are a subset of ImageNet.
"""

from __future__ import annotations

import re

from imagenet_etl.datasets.base import ArchiveFacts, DatasetFacts, Layout

# An unpacked folder may be given with or without the folder that the zip wraps around all.
_ROOT = r"(?P<root>tiny-imagenet-200/)?"
_WNID = r"(?P<wnid>n[0-9]{8})"

TINY_IMAGENET = DatasetFacts(
    name="tiny_imagenet",
    title="Tiny ImageNet",
    archives=(
        ArchiveFacts(
            name="tiny-imagenet-200.zip",
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            size=248_100_043,
            md5="90528d7ca1a48142e341f4ef8d21d0de",
            splits=("train", "val", "test"),
        ),
    ),
    layout=Layout(
        images={
            "train": re.compile(
                rf"{_ROOT}train/{_WNID}/images/(?P<file>(?P=wnid)_[0-9]{{1,6}}\.JPEG)"
            ),
            "val": re.compile(rf"{_ROOT}val/images/(?P<file>val_[0-9]{{1,6}}\.JPEG)"),
            "test": re.compile(rf"{_ROOT}test/images/(?P<file>test_[0-9]{{1,6}}\.JPEG)"),
        },
        side_files=re.compile(
            rf"{_ROOT}(?P<path>wnids\.txt|words\.txt|val/val_annotations\.txt"
            rf"|train/{_WNID}/(?P=wnid)_boxes\.txt)"
        ),
        max_members=200_000,
        max_member_bytes=64 << 20,
    ),
    expected={"train": 100_000, "val": 10_000, "test": 10_000},
    classes=200,
    labels="val_annotations",
    unlabelled=("test",),
    licence=(
        "The images belong to their photographers. ImageNet's terms of access allow "
        "non-commercial research and education only; redistribution is not allowed."
    ),
    terms_url="https://image-net.org/download",
    stages=("download", "untar", "restructure_val", "filter_classes", "plan_shards", "pack",
            "verify", "report"),
)  # fmt: skip
