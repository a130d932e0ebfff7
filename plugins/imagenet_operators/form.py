"""The trigger form of a dataset's DAG, with the bounds that ``imagenet_etl.config`` checks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from imagenet_etl.config import BOUNDS, EXPECTATIONS, FORMATS
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.images.geometry import MODES
from imagenet_etl.images.spec import SUBSAMPLINGS

_FORMAT_NAMES = {
    "recordio": "RecordIO (.rec, .idx, .lst)",
    "lmdb": "LMDB (Caffe)",
    "lmdb:squash:224x224:upscale": "LMDB as DIGITS makes it, 224 x 224",
    "webdataset": "WebDataset (.tar)",
    "imagefolder": "ImageFolder (loose files)",
}
_RESIZE_PATTERN = r"^(none|(short|long)_edge:\d{1,4}|(squash|crop|fill|half_crop):\d{1,4}x\d{1,4})$"
_RESIZE_EXAMPLES = ["none", "short_edge:256", "short_edge:480", "long_edge:512", "squash:224x224",
                    "crop:224x224", "fill:224x224", "half_crop:224x224"]  # fmt: skip


def form(facts: DatasetFacts) -> dict[str, Param]:
    """Return the params of a dataset's DAG, in the order of the form."""
    return _source(facts) | _place() | _images() | _records() | _cloud()


def _source(facts: DatasetFacts) -> dict[str, Param]:
    archive = facts.archives[0]
    size = f" ({archive.size / 1e6:,.0f} MB)" if archive.size else ""
    return {
        "source": _text(
            "Source",
            f"Archive {archive.name}",
            f"Path on the workers, or URL. Empty: {archive.url}{size}.\n\n"
            f"**Terms.** {facts.licence} [Read them]({facts.terms_url}).",
        ),
        "expect": Param(
            "published",
            type="string",
            enum=list(EXPECTATIONS),
            title="Expected content",
            section="Source",
            description_md="**published** demands the published counts and digests; **any** is for "
            "samples, and the manifest says so.",
        ),
    }


def _place() -> dict[str, Param]:
    return {
        "data_dir": _text(
            "Place",
            "Data folder",
            "Folder on the workers. Empty: the Variable **imagenet_data_dir**, else /data.",
        ),
        "version": _text(
            "Place",
            "Version",
            "Name of the published version. Empty: eight hex digits that stand for its content.",
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
        ),
    }


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
        "upscale": _switch(
            "Images", "Enlarge smaller images", "Off: an image is never drawn larger than it is."
        ),
        "center_crop": _switch("Images", "Middle square", "Cut it out before anything else."),
        "quality": _number("Images", "quality", 90, "JPEG quality", "Of re-encoded images."),
        "subsampling": Param(
            "420",
            type="string",
            enum=list(SUBSAMPLINGS),
            title="Chroma subsampling",
            section="Images",
            description_md="Of re-encoded images; **444** keeps all colour.",
        ),
        "png": _switch("Images", "PNG", "Store PNG instead of JPEG: no loss, five times the size."),
        "im2rec_compat": _switch(
            "Images",
            "As im2rec",
            "Draw every image as MXNet's im2rec does, aliasing and enlarging included, to match "
            "data of old.",
        ),
    }


def _records() -> dict[str, Param]:
    return {
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
        "shards": _number(
            "Records", "shards", 0, "Training shards", "0: one for each 4,096 records or less."
        ),
        "val_shards": _number("Records", "val_shards", 1, "Validation shards", "For all records."),
        "seed": _number("Records", "seed", 100, "Seed", "Of the shuffle; 100 is im2rec's."),
        "max_bad": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Bad images allowed",
            section="Records",
            description_md="Images that may be quarantined. Empty: 0.01 %, at least 1.",
        ),
        "workers": _number("Records", "workers", 0, "Processes", "0: one a core."),
    }


def _cloud() -> dict[str, Param]:
    return {
        "s3_uri": _text(
            "Cloud",
            "Backup",
            "As s3://bucket/prefix. Empty: the Variable **imagenet_s3_uri**, else no backup. "
            "**none**: no backup this time.",
            pattern=r"^(none|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?)?$",
        ),
        "ebs_volume_id": _text(
            "Cloud",
            "Volume to snapshot",
            "Id of the EBS volume under the data folder. Empty: the Variable "
            "**imagenet_ebs_volume_id**, else no snapshot. **none**: no snapshot this time.",
            pattern=r"^(none|vol-[0-9a-f]{8,17})?$",
        ),
    }


def _text(section: str, title: str, text: str, **schema: Any) -> Param:
    return Param(
        "", type=["null", "string"], title=title, section=section, description_md=text, **schema
    )


def _switch(section: str, title: str, text: str) -> Param:
    return Param(False, type="boolean", title=title, section=section, description_md=text)


def _number(section: str, name: str, default: int, title: str, text: str) -> Param:
    low, high = BOUNDS[name]
    bounds = f"{low:,} to {high:,}" if high < 2**31 else f"{low:,} or more"
    return Param(
        default,
        type="integer",
        minimum=low,
        maximum=high,
        title=title,
        section=section,
        description_md=f"{text} {bounds}.",
    )
