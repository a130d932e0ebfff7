"""ILSVRC2012: the 1,000 classes of the ImageNet Large Scale Visual Recognition Challenge 2012.

Sources: sizes and MD5 as image-net.org publishes them beside its download links; counts from
image-net.org/challenges/LSVRC/2012; layout of the training archive, a tar of one tar a class, from
the archive itself; terms from image-net.org/download.
"""

from __future__ import annotations

import re

from imagenet_etl.datasets.base import ArchiveFacts, DatasetFacts, Layout

_WNID = r"(?P<wnid>n[0-9]{8})"

ILSVRC2012 = DatasetFacts(
    name="ilsvrc2012",
    title="ILSVRC2012",
    archives=(
        ArchiveFacts(
            name="ILSVRC2012_img_train.tar",
            url="",
            size=147_897_477_120,
            md5="1d675b47d978889d74fa0da5fadfb00e",
            kind="tar",
        ),
    ),
    layout=Layout(
        images={
            # n01440764.tar/n01440764_10026.JPEG, or n01440764/… where the class tars are unpacked.
            "train": re.compile(
                rf"(?P<root>train/)?{_WNID}(?P<tar>\.tar)?/(?P<file>(?P=wnid)_[0-9]{{1,8}}\.JPEG)"
            ),
        },
        class_tars=re.compile(rf"{_WNID}\.tar"),
        max_members=2_000_000,
        max_member_bytes=64 << 20,
    ),
    expected={"train": 1_281_167},
    classes=1000,
    licence=(
        "The images belong to their photographers. ImageNet's terms of access allow "
        "non-commercial research and education only; redistribution is not allowed."
    ),
    terms_url="https://image-net.org/download",
    stages=("download", "untar", "restructure_val", "plan_shards", "pack", "verify"),
    max_pixels=64_000_000,
)
