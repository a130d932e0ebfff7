"""Stage ``report``: what was made of what, on half a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from imagenet_etl.check.loose import total_bytes
from imagenet_etl.check.tree import Tree
from imagenet_etl.images.spec import ImageSpec
from imagenet_etl.records.formats import LOOSE_FORMATS
from imagenet_etl.stage import Place, Result

REPORT = "report.txt"
LISTED = 20
"""The text goes through the metadata database: it names this many classes with bad images."""
_DEFAULTS = ("no_", "fill=000000")


def report(place: Place) -> Result:
    """Write ``report.txt``; the facts of the receipt hold its ``text``."""
    text = "".join(f"{line}\n" for line in _lines(place))
    path = place.scratch()
    path.write_text(text)
    return Result(counts={}, outputs=(place.publish(REPORT, path),), facts={"text": text})


def _lines(place: Place) -> Iterator[str]:
    facts, verified, packed = place.build.facts, place.done["verify"], place.done["pack"]
    yield f"{facts.title}, version {verified.facts['version']}, in {verified.facts['path']}"
    yield f"manifest sha256 {verified.facts['manifest_sha256']}"
    yield ""
    for split, classes in packed.facts["class_counts"].items():
        least, most = min(classes.values()), max(classes.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        yield (
            f"{split:<16}{sum(classes.values()):>12,} images in {len(classes):,} classes, "
            f"{each} a class"
        )
    for split in place.done["download"].facts["left_out"]:
        yield f"{split:<16}{'left out':>12}"
    for name in ("copied", "re-encoded", "repaired", "quarantined"):
        yield f"{name:<16}{packed.counts[name]:>12,}"
    yield from _quarantined(packed.quarantined)
    yield from _left_out(place)
    yield ""
    for output, spec in place.build.settings.outputs.items():
        yield f"{output:<16}{_gigabytes(place, output):>12,.3f} GB, {_in_short(spec)}"
    yield ""
    for name, receipt in place.done.items():
        yield f"{name:<16}{receipt.seconds:>12,.1f} s"


def _quarantined(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line a class: how many images it lost, and the first of them."""
    by_class: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        by_class.setdefault(item["wnid"], []).append(item)
    for wnid, some in sorted(by_class.items())[:LISTED]:
        yield f"  {wnid:<14}{len(some):>12,} {some[0]['path']}: {some[0]['reason']}"
    if len(by_class) > LISTED:
        yield f"  in {len(by_class) - LISTED:,} more classes, all of them in quarantine.tsv"


def _left_out(place: Place) -> Iterator[str]:
    counts, untar = place.done["filter_classes"].counts, place.done["untar"]
    if counts["dropped_classes"]:
        yield (
            f"{'dropped':<16}{counts['dropped_images']:>12,} images in "
            f"{counts['dropped_classes']:,} classes"
        )
    if untar.counts.get("missing_classes"):
        yield f"{'missing classes':<16}{untar.counts['missing_classes']:>12,}"
    bad = untar.facts.get("bad_classes", [])
    if bad:
        yield f"{'bad classes':<16}{len(bad):>12,}"
    for item in bad[:LISTED]:
        yield f"  {item['wnid']:<14}{item['path']}: {item['reason']}"
    if len(bad) > LISTED:
        yield f"  and {len(bad) - LISTED:,} more, all of them in the manifest"


def _gigabytes(place: Place, output: str) -> float:
    verified = place.done["verify"]
    size = sum(file.size for file in verified.outputs if file.name.startswith(f"{output}/"))
    if output in LOOSE_FORMATS:
        size += total_bytes(Tree(place.build.storage, verified.base), output)
    return size / 1e9


def _in_short(spec: ImageSpec) -> str:
    parts = spec.canonical().split(":")
    return " ".join(part for part in parts if not part.startswith(_DEFAULTS))
