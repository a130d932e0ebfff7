"""A miniature ILSVRC2012: the official archives, a tree unpacked from them, or Kaggle's copy."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from imagenet_etl.errors import ConfigError
from imagenet_etl.labels.devkit import Synset
from imagenet_etl.samples.content import Content, content_of
from imagenet_etl.samples.devkit import ROOT, devkit_files
from imagenet_etl.samples.images import SampleSize, new_file, new_folder
from imagenet_etl.samples.kaggle import Add, write_kaggle
from imagenet_etl.samples.tars import EPOCH, add_file, add_folder, new_tar, tar_of

LAYOUTS = ("archives", "tree", "tree-by-class", "kaggle", "kaggle-zip")
TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = f"{ROOT}.tar.gz"
_ZIP_EPOCH = (2012, 6, 18, 0, 0, 0)


@dataclass(frozen=True)
class IlsvrcTruth:
    """What a reader of the sample should find.

    Attributes:
        synsets: The classes in the order of their ids.
        val: The wnid of each validation image by file name.
    """

    synsets: list[Synset]
    val: dict[str, str]


def build_ilsvrc2012(
    out: Path,
    images: Path | None,
    size: SampleSize,
    *,
    stored: bool = False,
    layout: str = "archives",
) -> IlsvrcTruth:
    """Write a sample in one of the layouts in which people have the set. Images keep their size.

    The same call gives the same bytes, and every layout holds the same images under the same names.
    One class at a time is held in memory.

    Args:
        out: The folder to write; for ``kaggle-zip`` the file.
        images: Folder or tar of JPEGs; None to generate images. Names of classes are taken from
            ``classes.tsv`` beside it, where there is one.
        size: How many classes and images; ``test`` only for Kaggle's layouts, others have none.
        stored: Whether the members of ``kaggle-zip`` are stored rather than deflated.
        layout: ``archives``: the three files of the publisher; ``tree``: unpacked, ``val`` flat and
            the devkit beside; ``tree-by-class``: unpacked, ``val`` by class, no devkit; ``kaggle``:
            Kaggle's tree; ``kaggle-zip``: the same in a zip.

    Raises:
        ConfigError: There are too few images, or something that the layout does not have is asked
            for.
        KeyExists: ``out`` is there already.
    """
    _check_options(size, layout, stored=stored)
    content = content_of(images, size)
    if layout == "kaggle-zip":
        with new_file(out) as staged, _zip_adder(staged, stored=stored) as add:
            write_kaggle(content, add)
    else:
        with new_folder(out) as staged:
            if layout == "archives":
                _write_archives(content, staged)
            elif layout == "kaggle":
                write_kaggle(content, _folder_adder(staged))
            else:
                _write_tree(content, _folder_adder(staged), by_class=layout == "tree-by-class")
    return IlsvrcTruth(content.synsets, content.val)


def _check_options(size: SampleSize, layout: str, *, stored: bool) -> None:
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout}", expected=f"one of {', '.join(LAYOUTS)}")
    if stored and layout != "kaggle-zip":
        raise ConfigError(
            f"--stored has no effect on the layout {layout}",
            expected="kaggle-zip, the one layout that compresses",
            remedy="Leave --stored out",
        )
    if not layout.startswith("kaggle") and size.test not in {0, SampleSize.test}:
        raise ConfigError(
            f"--test has no effect on the layout {layout}",
            expected="kaggle or kaggle-zip, which have unlabelled images",
            found=size.test,
            remedy="Leave --test out",
        )


def _write_archives(content: Content, folder: Path) -> None:
    with ExitStack() as stack:
        train, val = (stack.enter_context(new_tar(folder / name)) for name in (TRAIN, VAL))
        images = content.files(test=False)
        for (split, wnid), some in groupby(images, lambda image: (image.split, image.wnid)):
            if split == "val":
                for image in some:
                    add_file(val, image.name, image.data)
            else:
                class_tar = tar_of((image.name, image.data) for image in some)
                add_file(train, f"{wnid}.tar", class_tar)
    files = devkit_files(content.synsets, content.val, content.size.train)
    (folder / DEVKIT).write_bytes(_devkit_tar(files))


def _write_tree(content: Content, add: Add, *, by_class: bool) -> None:
    for image in content.files(test=False):
        folder = f"{image.wnid}/" if by_class or image.split == "train" else ""
        add(f"{image.split}/{folder}{image.name}", image.data)
    if not by_class:
        files = devkit_files(content.synsets, content.val, content.size.train)
        for name, data in files.items():
            add(f"{ROOT}/{name}", data)


def _devkit_tar(files: dict[str, bytes]) -> bytes:
    plain, out = io.BytesIO(), io.BytesIO()
    with new_tar(plain) as tar:
        for folder in (ROOT, f"{ROOT}/data"):
            add_folder(tar, folder)
        for name, data in files.items():
            add_file(tar, f"{ROOT}/{name}", data)
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=EPOCH) as packed:
        packed.write(plain.getvalue())
    return out.getvalue()


def _folder_adder(root: Path) -> Add:
    def add(name: str, data: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return add


@contextmanager
def _zip_adder(path: Path, *, stored: bool) -> Iterator[Add]:
    kind = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", kind) as archive:

        def add(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.compress_type, info.create_system = kind, 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)

        yield add
