"""The trigger form of a dataset's DAG, with the bounds that ``imagenet_etl.config`` checks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from imagenet_etl.config import BOUNDS, EXPECTATIONS, FORMATS
from imagenet_etl.datasets import DatasetFacts
from imagenet_etl.images.geometry import MODES

_FORMAT_NAMES = {
    "recordio": "RecordIO (.rec, .idx, .lst)",
    "imagefolder": "ImageFolder (loose files)",
}


def form(facts: DatasetFacts) -> dict[str, Param]:
    """Return the params of a dataset's DAG, in the order of the form."""
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
        "resize": Param(
            "none",
            type="string",
            title="Image size",
            section="Images",
            pattern=r"^(none|short_edge:\d{1,4}|(squash|crop):\d{1,4}x\d{1,4})$",
            examples=["none", "short_edge:256", "short_edge:480", "squash:224x224", "crop:224x224"],
            description_md=f"In pixels: {', '.join(MODES)}. Images that "
            "fit already are copied byte for byte.",
        ),
        "upscale": Param(
            False,
            type="boolean",
            title="Enlarge smaller images",
            section="Images",
            description_md="Off: an image is never drawn larger than it is.",
        ),
        "quality": _number("Images", "quality", 90, "JPEG quality", "Of re-encoded images."),
        "formats": Param(
            ["recordio"],
            type="array",
            items={"type": "string", "enum": list(FORMATS)},
            minItems=1,
            examples=list(FORMATS),
            values_display=_FORMAT_NAMES,
            title="Formats",
            section="Records",
            description_md="One or more.",
        ),
        "shards": _number(
            "Records", "shards", 0, "Training shards", "0: one for each 4,096 records."
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
