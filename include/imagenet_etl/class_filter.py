"""Stage ``filter_classes``: keep some classes only, where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from imagenet_etl.config import Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.index import ClassEntry, class_sizes
from imagenet_etl.stage import Place, Result

FILTER_SETTINGS = ("keep_classes", "drop_classes", "min_images_per_class")
"""The settings that filter_classes reads."""


class DroppedClass(TypedDict):
    """A class without a label: its wnid, and how many images the archive has of it."""

    wnid: str
    images: int


def why_not_filtered(settings: Settings) -> str:
    """Return why all classes stay, nothing when some may not."""
    if settings.keep_classes or settings.drop_classes or settings.min_images_per_class > 1:
        return ""
    return "nothing asks for fewer classes, all classes stay"


def filter_classes(place: Place) -> Result:
    """Decide which classes stay; the index keeps all of them, so that this can be undone.

    The facts of the receipt hold the kept ``classes`` in label order, so that their labels count
    on without gaps, and the ``dropped`` ones, each a ``DroppedClass``.

    Raises:
        ConfigError: A class that is named is not there, or none is left.
    """
    build = place.build
    labelled = place.done.get("restructure_val", place.done["untar"])
    (index,) = (output for output in labelled.outputs if output.name == "images.parquet")
    sizes = class_sizes(build.storage, labelled.key_of(index.name))
    images = {wnid: sum(split.get(wnid, 0) for split in sizes.values())
              for wnid in sorted(set().union(*sizes.values()))}  # fmt: skip
    classes: list[ClassEntry] = labelled.facts.get("classes") or [
        ClassEntry(wnid=wnid, ilsvrc_id=None, names="") for wnid in images
    ]
    wanted = _wanted(place, [entry["wnid"] for entry in classes], sizes.get("train", {}))
    dropped = [
        DroppedClass(wnid=entry["wnid"], images=images.get(entry["wnid"], 0))
        for entry in classes
        if entry["wnid"] not in wanted
    ]
    return Result(
        counts={
            "kept_classes": len(wanted),
            "dropped_classes": len(dropped),
            "dropped_images": sum(entry["images"] for entry in dropped),
        },
        outputs=(index,),
        facts={
            "classes": [entry for entry in classes if entry["wnid"] in wanted],
            "dropped": dropped,
        },
        base=labelled.base,
    )


def _wanted(place: Place, known: Sequence[str], train: dict[str, int]) -> set[str]:
    """Return the classes that stay: a class that is named stays however small it is.

    Raises:
        ConfigError: A class that is named is not there, or none is left.
    """
    settings = place.build.settings
    unknown = sorted({*settings.keep_classes, *settings.drop_classes} - set(known))
    if unknown:
        raise ConfigError(
            f"{place.build.facts.title} has no class {', '.join(unknown)}",
            remedy="Look into classes.tsv of a published version",
        )
    least = settings.min_images_per_class
    # Every class has one image or more, though perhaps not of the splits that are prepared.
    large = [wnid for wnid in known if least <= 1 or train.get(wnid, 0) >= least]
    wanted = set(settings.keep_classes or large) - set(settings.drop_classes)
    if not wanted:
        raise ConfigError(
            "no class is left",
            expected=f"one with {least:,} images or more" if least > 1 else "",
            found=f"{max(train.values(), default=0):,} in the largest" if least > 1 else "",
            remedy="Look at min_images_per_class, keep_classes and drop_classes",
        )
    return wanted
