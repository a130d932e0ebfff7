"""Stage ``filter_classes``: keep some classes only, where that is asked for."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from imagenet_etl.config import Settings
from imagenet_etl.errors import ConfigError
from imagenet_etl.index import INDEX
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table, write_batches

FILTER_SETTINGS = ("keep_classes", "drop_classes")
"""The settings that filter_classes reads."""


def why_not_filtered(settings: Settings) -> str:
    """Return why all classes stay, nothing when some do not."""
    if settings.keep_classes or settings.drop_classes:
        return ""
    return "neither keep_classes nor drop_classes is set, all classes stay"


def filter_classes(place: Place) -> Result:
    """Write the index again without the images of dropped classes, as ``images.parquet``.

    The facts of the receipt hold the kept ``classes`` in label order, so that their labels count
    on without gaps, and the ``dropped`` ones.

    Raises:
        ConfigError: A class that is named is not there, or none is left.
    """
    labelled = place.done["restructure_val"]
    classes = labelled.facts["classes"]
    if why_not_filtered(place.build.settings):
        return Result(
            counts={"kept_classes": len(classes), "dropped_classes": 0},
            outputs=labelled.outputs,
            facts={"classes": classes, "dropped": []},
            base=labelled.base,
        )
    known = {entry["wnid"] for entry in classes}
    wanted = _wanted(place, known)
    index = read_table(place.build.storage, labelled.key_of("images.parquet"))
    # Images without a class belong to splits without labels, which are left out later, and counted.
    is_kept = pc.fill_null(pc.is_in(index["wnid"], value_set=pa.array(sorted(wanted))), False)
    kept = index.filter(pc.or_(is_kept, index["wnid"].is_null()))
    path = place.scratch()
    write_batches(path, INDEX, [kept])
    return Result(
        counts={
            "kept_classes": len(wanted),
            "dropped_classes": len(known) - len(wanted),
            "dropped_images": index.num_rows - kept.num_rows,
        },
        outputs=(place.publish("images.parquet", path),),
        facts={
            "classes": [entry for entry in classes if entry["wnid"] in wanted],
            "dropped": [entry for entry in classes if entry["wnid"] not in wanted],
        },
    )


def _wanted(place: Place, known: set[str]) -> set[str]:
    """Return the classes that stay.

    Raises:
        ConfigError: A class that is named is not there, or none is left.
    """
    settings = place.build.settings
    unknown = sorted({*settings.keep_classes, *settings.drop_classes} - known)
    if unknown:
        raise ConfigError(
            f"{place.build.facts.title} has no class {', '.join(unknown)}",
            remedy="Look into classes.tsv of a published version",
        )
    wanted = set(settings.keep_classes or known) - set(settings.drop_classes)
    if not wanted:
        raise ConfigError("keep_classes and drop_classes leave no class")
    return wanted
