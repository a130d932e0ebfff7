"""The whole of ImageNet, one tar a class: the releases fall11 and winter21.

Sources: 14,197,122 images in 21,841 synsets of fall11 as image-net.org/about-stats counted them;
its size as whoever holds a copy reports it; URL, MD5 and number of classes of winter21 from the
scripts of github.com/Alibaba-MIIL/ImageNet21K; the rule of more than 500 images a class, and of 50
of them for validation, from the same group's arXiv:2104.10972; terms from image-net.org/download.
"""

from __future__ import annotations

import re
from typing import Any

from imagenet_etl.datasets.base import ArchiveFacts, DatasetFacts, Layout

_WNID = r"(?P<wnid>n[0-9]{8})"
# winter21's tar has a folder of that name around its class tars.
_ROOT = r"(?P<root>(?:fall11|winter21)_whole/)?"

_LAYOUT = Layout(
    images={
        # n01440764.tar/n01440764_10026.JPEG, or n01440764/… where it is unpacked. Some files bear
        # the id of another class: what counts is the tar that they lie in.
        "train": re.compile(
            rf"{_ROOT}{_WNID}(?P<tar>\.tar)?/(?P<file>n[0-9]{{8}}_[0-9]{{1,8}}\.JPEG)"
        ),
    },
    class_tars=re.compile(rf"(?:(?:fall11|winter21)_whole/)?{_WNID}\.tar"),
    passed_over=re.compile(r"(?:.*/)?(?:\.DS_Store|Thumbs\.db|(?i:readme)(?:\.txt)?|MD5SUMS)"),
    max_members=30_000_000,
    max_member_bytes=64 << 20,
)

_RELEASES = {"fall11": "imagenet_fall11", "winter21": "imagenet_winter21"}

_SHARED: dict[str, Any] = {
    "layout": _LAYOUT,
    "licence": (
        "The images belong to their photographers. ImageNet's terms of access allow "
        "non-commercial research and education only; redistribution is not allowed."
    ),
    "terms_url": "https://image-net.org/download",
    "stages": ("download", "untar", "filter_classes", "split_val", "plan_shards", "pack", "verify",
               "report"),
    "max_pixels": 64_000_000,
    "defaults": {"min_images_per_class": 501, "val_images_per_class": 50, "shard_mib": 1024,
                 "val_shards": 0},
    "may_lack_classes": True,
    "releases": _RELEASES,
}  # fmt: skip

IMAGENET_FALL11 = DatasetFacts(
    name="imagenet_fall11",
    title="ImageNet fall11",
    archives=(
        # image-net.org no longer offers it: who has it has kept it.
        ArchiveFacts(
            name="fall11_whole.tar", url="", about_bytes=1_310_000_000_000, kind="tar",
            splits=("train",),
        ),
    ),
    expected={"train": 14_197_122},
    classes=21_841,
    **_SHARED,
)  # fmt: skip

IMAGENET_WINTER21 = DatasetFacts(
    name="imagenet_winter21",
    title="ImageNet winter21",
    archives=(
        ArchiveFacts(
            name="winter21_whole.tar.gz",
            url="https://image-net.org/data/winter21_whole.tar.gz",
            md5="ab313ce03179fd803a401b02c651c0a2",
            about_bytes=1_100_000_000_000,
            kind="tar.gz",
            splits=("train",),
        ),
    ),
    expected={"train": 0},
    classes=19_167,
    **_SHARED,
)
