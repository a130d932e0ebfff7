"""Stage ``restructure_val``: give each validation image its class, where the archive leaves it."""

from __future__ import annotations

import pyarrow.compute as pc

from imagenet_etl.labels.val_annotations import label_by_annotations
from imagenet_etl.stage import Place, Result
from imagenet_etl.tables import read_table


def restructure_val(place: Place) -> Result:
    """Write the index again with the class of every validation image, as ``images.parquet``.

    The facts of the receipt hold ``classes``: ``[wnid, names]`` in label order.

    Raises:
        LabelError: An image has no line, a line has no image, or a class is unknown.
    """
    if "val" in place.build.facts.layout.images:
        return label_by_annotations(place)
    return _passed_on(place)


def _passed_on(place: Place) -> Result:
    """Return the index as it is: every image stands in the folder of its class."""
    untar = place.done["untar"]
    (index,) = (output for output in untar.outputs if output.name == "images.parquet")
    table = read_table(place.build.storage, untar.key_of(index.name), ["wnid"])
    wnids = sorted(pc.unique(table["wnid"].drop_null()).to_pylist())
    return Result(
        counts={"val_labels": 0},
        outputs=(index,),
        facts={"classes": [[wnid, ""] for wnid in wnids]},
        base=untar.base,
    )
