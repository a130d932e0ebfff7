"""The trigger form of a dataset's DAG, with the bounds that ``imagenet_etl.config`` checks."""

from __future__ import annotations

import os

from airflow.sdk import Param

from imagenet_etl.config import (
    EXPECTATIONS,
    FORMATS,
    KEEP_ARCHIVES,
    LABEL_ORDERS,
    MAX_LOOSE_FILES,
    SHUFFLES,
)
from imagenet_etl.datasets import ArchiveFacts, DatasetFacts
from imagenet_etl.datasets.base import WNID
from imagenet_etl.images.geometry import MODES
from imagenet_etl.images.spec import SUBSAMPLINGS
from imagenet_operators.form_cloud import backup_fields, snapshot_fields, version_fields
from imagenet_operators.form_fields import choice, number, switch, text_field

ALL_SPLITS = "all"
_FORMAT_NAMES = {
    "recordio": "RecordIO (.rec, .idx, .lst)",
    "lmdb": "LMDB (Caffe)",
    "lmdb:squash:224x224:q90:upscale": "LMDB as DIGITS makes it, 224 x 224, JPEG 90",
    "webdataset": "WebDataset (.tar)",
    "imagefolder": "ImageFolder (loose files)",
}
_RESIZE_PATTERN = r"^(none|(short|long)_edge:\d{1,4}|(squash|crop|fill|half_crop):\d{1,4}x\d{1,4})$"
_RESIZE_EXAMPLES = ["none", "short_edge:256", "short_edge:480", "long_edge:512", "squash:224x224",
                    "crop:224x224", "fill:224x224", "half_crop:224x224"]  # fmt: skip


def form(facts: DatasetFacts) -> dict[str, Param]:
    """Return the params of a dataset's DAG, in the order of the form."""
    sections = (
        _source(facts), _place(), _classes(facts), _images(), _records(facts),
        backup_fields(facts), snapshot_fields(), version_fields(),
    )  # fmt: skip
    return {name: field for section in sections for name, field in section.items()}


def _source(facts: DatasetFacts) -> dict[str, Param]:
    terms = f"**Terms.** {facts.licence} [Read them]({facts.terms_url})."
    fields = {}
    if facts.releases:
        fields["release"] = choice(
            "Source",
            tuple(facts.releases),
            "Release",
            "**fall11**: 21,841 classes; **winter21**: the 19,167 that image-net.org still has.",
            default=os.environ.get("IMAGENET_RELEASE") or next(iter(facts.releases)),
        )
    fields["source"] = text_field("Source", *_whole(facts, terms))
    for archive in facts.archives if facts.bundle else ():
        fields[f"source_{archive.role}"] = text_field(
            "Source", archive.name, f"Path or URL of this archive alone{_size(archive)}."
        )
    if facts.bundle:
        fields["splits"] = choice(
            "Source",
            (ALL_SPLITS, *facts.layout.images),
            "Splits",
            "Prepare one split alone. **all**: or those of the archives given above.",
            values_display={split: f"{split} alone" for split in facts.layout.images},
        )
    fields["expect"] = choice(
        "Source",
        EXPECTATIONS,
        "Expected content",
        "**published** demands the published counts and digests; **any** is for samples, and the "
        "manifest says so.",
    )
    return fields


def _whole(facts: DatasetFacts, terms: str) -> tuple[str, str]:
    """Return title and text of the field for what holds everything."""
    if not facts.bundle:
        archive = facts.archives[0]
        if facts.releases:
            return (
                "Archive",
                "Path on the workers, or URL, of the release in one file; or path of a folder of "
                "its class tars, or of folders by class. Empty: the Variable "
                "**imagenet_source_imagenet_fall11** or **…_winter21**, else image-net.org, which "
                "has winter21 alone, with the login of the connection **imagenet_default**."
                f"\n\n{terms}",
            )
        return (
            f"Archive {archive.name}",
            f"Path on the workers, or URL, of the archive or of its unpacked copy. Empty: "
            f"{archive.url}{_size(archive)}.\n\n{terms}",
        )
    return (
        "Everything in one place",
        "Path on the workers, or URL: a folder of the archives below, an unpacked tree "
        "(**train/** and **val/**), Kaggle's folder or zip; it is looked at to find out. "
        "All empty: image-net.org, with the login of the connection **imagenet_default**."
        f"\n\n{terms}",
    )


def _size(archive: ArchiveFacts) -> str:
    size = archive.size or 0
    if not size:
        return ""
    return f" ({size / 1e9:,.1f} GB)" if size > 1e9 else f" ({size / 1e6:,.0f} MB)"


def _place() -> dict[str, Param]:
    return {
        "data_dir": text_field(
            "Place",
            "Data folder",
            "Folder that every worker sees, or s3://bucket/prefix. Empty: the Variable "
            "**imagenet_data_dir**, else /data.",
        ),
        "version": text_field(
            "Place",
            "Version",
            "Name of the published version. Empty: eight hex digits that stand for its content.",
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
        ),
        "connections": number(
            "Place",
            "connections",
            4,
            "Connections",
            "Ranges of an archive that are fetched at once.",
        ),
        "keep_archives": choice(
            "Place",
            KEEP_ARCHIVES,
            "Keep fetched archives",
            "Or delete them once the version is verified and they are backed up (**after_backup**, "
            "with **archives** among what is backed up), or verified (**never**). What was given "
            "by path is never touched.",
        ),
    }


def _classes(facts: DatasetFacts) -> dict[str, Param]:
    fields = {
        "keep_classes": _wnids("Keep classes", "These classes alone. Empty: all."),
        "drop_classes": _wnids("Leave out classes", "All but these."),
    }
    if "split_val" in facts.stages:
        fields |= _by_size(facts)
    if facts.labels == "devkit":
        fields["label_order"] = choice(
            "Classes",
            LABEL_ORDERS,
            "Labels",
            "**wnid**: by sorted wnid, as torchvision and Caffe count; **devkit**: by the ids of "
            "the development kit.",
        )
    return fields


def _by_size(facts: DatasetFacts) -> dict[str, Param]:
    """Return the fields of a dataset whose classes differ in size and have no validation images."""
    return {
        "min_images_per_class": number(
            "Classes",
            "min_images_per_class",
            facts.defaults["min_images_per_class"],
            "Images a class, at least",
            "Smaller classes are left out, unless they are kept by name; each needs more images "
            "than become validation images.",
        ),
        "val_images_per_class": number(
            "Classes",
            "val_images_per_class",
            facts.defaults["val_images_per_class"],
            "Validation images a class",
            "Drawn from the training images by the seed.",
        ),
    }


def _wnids(title: str, text: str) -> Param:
    return Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": rf"^{WNID.pattern}$"},
        title=title,
        section="Classes",
        description_md=f"{text} One wnid a line, such as n02510455.",
    )


def _images() -> dict[str, Param]:
    return {
        "resize": Param(
            "none",
            type="string",
            title="Image size",
            section="Images",
            pattern=_RESIZE_PATTERN,
            examples=_RESIZE_EXAMPLES,
            description_md=f"In pixels: {', '.join(MODES)}. Images that "
            "fit already are copied byte for byte.",
        ),
        "upscale": switch(
            "Images", "Enlarge smaller images", "Off: an image is never drawn larger than it is."
        ),
        "center_crop": switch("Images", "Middle square", "Cut it out before anything else."),
        "quality": number("Images", "quality", 90, "JPEG quality", "Of re-encoded images."),
        "subsampling": choice(
            "Images",
            SUBSAMPLINGS,
            "Chroma subsampling",
            "Of re-encoded images; **444** keeps all colour.",
            default="420",
        ),
        "png": switch("Images", "PNG", "Store PNG instead of JPEG: no loss, five times the size."),
        "im2rec_compat": switch(
            "Images",
            "As im2rec",
            "Draw every image as MXNet's im2rec does, aliasing and enlarging included, to match "
            "data of old.",
        ),
    }


def _records(facts: DatasetFacts) -> dict[str, Param]:
    fields = {
        "formats": Param(
            ["recordio"],
            type="array",
            items={"type": "string", "pattern": rf"^({'|'.join(FORMATS)})(:.+)?$"},
            minItems=1,
            examples=list(_FORMAT_NAMES),
            values_display=_FORMAT_NAMES,
            title="Formats",
            section="Records",
            description_md="One or more, each once. From the API a format may have images of its "
            "own: **lmdb:squash:224x224:q90**.",
        ),
        "shards": number("Records", "shards", 0, "Training shards", "0: by their size, below."),
        "val_shards": number(
            "Records",
            "val_shards",
            facts.defaults.get("val_shards", 1),
            "Validation shards",
            "0: by their size, below.",
        ),
        "shard_mib": number(
            "Records",
            "shard_mib",
            facts.defaults.get("shard_mib", 0),
            "Size of a shard in MiB",
            "Of images as they are in the archive. 0: a shard for each 4,096 records or less.",
        ),
        "shuffle": choice(
            "Records",
            SHUFFLES,
            "Shuffle",
            "**global**: all records, as im2rec does; **blocks**: of neighbours, for disks that "
            "seek; **none**: by class and file name.",
        ),
        "seed": number("Records", "seed", 100, "Seed", _seed(facts)),
        "max_bad": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Bad images allowed",
            section="Records",
            description_md="Images that may be quarantined. Empty: 0.01 %, at least 1.",
        ),
        "workers": number("Records", "workers", 0, "Processes", "0: one a core."),
    }
    if facts.may_lack_classes:
        fields["max_bad_classes"] = number(
            "Records", "max_bad_classes", 0, "Bad classes allowed",
            "Class tars that may be missing, empty or damaged.",
        )  # fmt: skip
    return fields | _loose(facts)


def _seed(facts: DatasetFacts) -> str:
    if "split_val" in facts.stages:
        return "Of the shuffle and of the drawn validation images; 100 is im2rec's."
    return "Of the shuffle; 100 is im2rec's."


def _loose(facts: DatasetFacts) -> dict[str, Param]:
    """Return what ImageFolder of a large dataset asks for."""
    fields = {}
    if facts.bundle or facts.releases:
        fields["hardlink"] = switch(
            "Records",
            "Hard links",
            "ImageFolder from an unpacked tree: link files that stay as they are, in place of "
            "copying them. Off: reflinked where the file system can, else copied.",
        )
    if sum(facts.expected.values()) > MAX_LOOSE_FILES:
        fields["allow_loose_files"] = switch(
            "Records",
            "Over a million loose files",
            f"ImageFolder may write more than {MAX_LOOSE_FILES:,} of them.",
        )
    return fields
