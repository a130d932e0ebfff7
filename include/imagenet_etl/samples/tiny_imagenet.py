"""A miniature ``tiny-imagenet-200.zip``."""

from __future__ import annotations

import zipfile
from pathlib import Path

from imagenet_etl.errors import ConfigError
from imagenet_etl.samples.images import SampleSize, new_file, sample_images

EDGE = 64
_ROOT = "tiny-imagenet-200"
_EPOCH = (2015, 2, 10, 0, 0, 0)


def build_tiny_imagenet(
    out: Path,
    images: Path | None,
    size: SampleSize,
    *,
    stored: bool = False,
    layout: str = "archives",
) -> None:
    """Write a zip with the folders, names and text files of the official one.

    The same call gives the same bytes.

    Args:
        out: The zip to write.
        images: Folder or tar of JPEGs; None to generate images.
        size: How many classes and images.
        stored: Whether members are stored rather than deflated.
        layout: Not to be asked for: the set is one zip wherever it comes from.

    Raises:
        ConfigError: There are too few images, or another layout is asked for.
        KeyExists: ``out`` is there already.
    """
    if layout != "archives":
        raise ConfigError(
            "--layout has no effect on a sample of tiny_imagenet",
            expected="archives",
            found=layout,
            remedy="Leave --layout out",
        )
    pool = sample_images(images, size.labelled + size.test, size.classes, EDGE)
    files = pool.files
    wnids = pool.wnids
    kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with new_file(out) as staged, zipfile.ZipFile(staged, "w", kind) as archive:

        def add(name: str, data: bytes | str) -> None:
            info = zipfile.ZipInfo(f"{_ROOT}/{name}", _EPOCH)
            info.compress_type = kind
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)

        for folder in ("", "train/", "val/", "val/images/", "test/", "test/images/"):
            archive.writestr(zipfile.ZipInfo(f"{_ROOT}/{folder}", _EPOCH), b"")
        add("wnids.txt", "".join(f"{wnid}\n" for wnid in reversed(wnids)))
        add("words.txt", "".join(f"{wnid}\tsample class {wnid}\n" for wnid in wnids))
        for wnid in wnids:
            boxes = []
            for number in range(size.train):
                name = f"{wnid}_{number}.JPEG"
                add(f"train/{wnid}/images/{name}", next(files))
                boxes.append(f"{name}\t0\t0\t{EDGE - 1}\t{EDGE - 1}\n")
            add(f"train/{wnid}/{wnid}_boxes.txt", "".join(boxes))
        annotations = []
        for number in range(size.classes * size.val):
            name = f"val_{number}.JPEG"
            add(f"val/images/{name}", next(files))
            wnid = wnids[number % size.classes]
            annotations.append(f"{name}\t{wnid}\t0\t0\t{EDGE - 1}\t{EDGE - 1}\n")
        add("val/val_annotations.txt", "".join(annotations))
        for number in range(size.test):
            add(f"test/images/test_{number}.JPEG", next(files))
