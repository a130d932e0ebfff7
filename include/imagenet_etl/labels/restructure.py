"""Stage ``restructure_val``: give each validation image its class, where the archive leaves it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from imagenet_etl.errors import CountMismatch
from imagenet_etl.index import class_sizes
from imagenet_etl.labels.assign import passed_on
from imagenet_etl.labels.ilsvrc import label_by_devkit
from imagenet_etl.labels.val_annotations import label_by_annotations
from imagenet_etl.stage import Place, Result

_LABELLERS = {"val_annotations": label_by_annotations, "devkit": label_by_devkit}


def restructure_val(place: Place) -> Result:
    """Write the index again with the class of every validation image, as ``images.parquet``.

    The facts of the receipt hold ``classes``, in label order: see ``ClassEntry``.

    Raises:
        LabelError: An image has no line, a line has no image, or a class is unknown.
        CountMismatch: A class has fewer or more images than published.
    """
    result = _LABELLERS.get(place.build.facts.labels, passed_on)(place)
    if place.build.settings.expect == "published":
        _check_classes(place, result)
    return result


def _check_classes(place: Place, result: Result) -> None:
    """Compare the number of classes, and of each one's images, with the published numbers.

    Raises:
        CountMismatch: They differ.
    """
    facts = place.build.facts
    classes: list[Any] = result.facts["classes"]
    if len(classes) != facts.classes:
        raise CountMismatch(
            f"{facts.title} has another number of classes",
            expected=facts.classes,
            found=len(classes),
            remedy="For a sample, run with --expect any",
        )
    base = place.base if result.base is None else result.base
    sizes = class_sizes(place.build.storage, f"{base}/images.parquet")
    for split, (least, most) in facts.class_sizes.items():
        if split not in place.done["download"].facts["splits"]:
            continue
        counted = sizes.get(split, Counter())
        for entry in classes:
            if not least <= counted[entry["wnid"]] <= most:
                raise CountMismatch(
                    f"class {entry['wnid']} has another number of {split} images",
                    expected=f"{least} to {most}" if least < most else least,
                    found=counted[entry["wnid"]],
                    remedy="Is it the publisher's archive? For a sample, run with --expect any",
                )
