"""Stage ``verify``: read everything back, write the manifest, give the version its final name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imagenet_etl.check import Checked, Tree, check_tree
from imagenet_etl.class_filter import FILTER_SETTINGS
from imagenet_etl.errors import DatasetDamaged, KeyExists, VersionConflict
from imagenet_etl.files import typed_os_errors
from imagenet_etl.manifest import (
    MANIFEST,
    Manifest,
    ManifestFile,
    is_published_unnoted,
    parse_manifest,
    read_manifest,
    version_of,
)
from imagenet_etl.plan import PLAN_SETTINGS
from imagenet_etl.receipts import Output
from imagenet_etl.records.lmdb import MEAN
from imagenet_etl.stage import Place, Result
from imagenet_etl.storage import LocalStorage, Storage
from imagenet_etl.storage.many import stats_of
from imagenet_etl.val_split import SPLIT_SETTINGS

PACK_SETTINGS = ("outputs", "version", "expect")
"""The settings that pack reads."""

LABEL_SETTINGS = ("label_order",)
"""The settings that restructure_val reads, beside the expectation."""

_DECIDING = (PACK_SETTINGS, LABEL_SETTINGS, FILTER_SETTINGS, SPLIT_SETTINGS, PLAN_SETTINGS)
_SETTINGS = tuple(dict.fromkeys(name for names in _DECIDING for name in names))


def verify(place: Place) -> Result:
    """Check the packed tree against its receipt and publish it under the version's name.

    The facts of the receipt hold ``version``, ``path`` and ``manifest_sha256``.

    Raises:
        StillPending: This go's time is up; the next one goes on where it was.
        DatasetDamaged: What lies on disk is not what was packed.
        VersionConflict: Another build took the version's name in the meantime.
    """
    build, packed = place.build, place.done["pack"]
    manifest = make_manifest(place)
    encoded = manifest.to_json()
    final = f"{build.published}/{manifest.version}"
    if is_published_unnoted(build, packed):
        packed = replace(packed, base=final)
    tree = Tree(build.storage, packed.base)
    try:
        checked = check_tree(tree, manifest, _checked_before(place), build.check_heartbeat)
    except DatasetDamaged as error:
        # A try that was given up finds its files gone to where its successor has published them.
        build.check_owner()
        if packed.base != final and read_manifest(build, manifest.version) is None:
            # Nothing of it was published: let the next run pack it anew.
            build.storage.delete(_pack_folder(place))
            build.storage.remove(_notes_key(place))
            error.remedy = "What was packed is dropped: run again, and check the disk's health"
        raise
    if packed.base == final:
        if build.storage.read(f"{final}/{MANIFEST}") != encoded:
            raise tree.damaged(MANIFEST, "the manifest of this build", "another one")
    else:
        build.check_owner()
        build.storage.put(f"{packed.base}/{MANIFEST}", encoded)
        build.check_owner()
        try:
            build.storage.publish_tree(packed.base, final, MANIFEST)
        except KeyExists as error:
            build.check_owner()
            # An earlier try of this build may have died before it had removed what it copied.
            if build.storage.read(f"{final}/{MANIFEST}") != encoded:
                raise VersionConflict(
                    f"version {manifest.version!r} was published by another run meanwhile",
                    remedy="Run again: equal content is adopted, other content needs another name",
                ) from error
    sha256 = hashlib.sha256(encoded).hexdigest()
    outputs = _stamped(place, final, [*packed.outputs, Output(MANIFEST, len(encoded), sha256)])
    _clean_up(place, final, outputs[:-1])
    local = build.storage.local_path(final)
    return Result(
        counts=manifest.counts,
        outputs=outputs,
        facts={
            "version": manifest.version,
            "path": str(local) if local else f"{build.storage.url}/{final}",
            "manifest_sha256": sha256,
            "checked": checked,
        },
        base=final,
    )


def _notes_key(place: Place) -> str:
    return f"{place.base}/checked.json"


def _checked_before(place: Place) -> Checked | None:
    build = place.build
    if build.slice_s is None:
        return None
    return Checked(build.storage, _notes_key(place), build.owner.run, build.slice_s)


def _stamped(place: Place, base: str, outputs: Sequence[Output]) -> tuple[Output, ...]:
    """Return files with the tags that they have where they are now."""
    stats = stats_of(place.build.storage, [f"{base}/{output.name}" for output in outputs])
    tags = {key: stat.tag for key, stat in stats.items()}
    return tuple(replace(output, tag=tags.get(f"{base}/{output.name}", "")) for output in outputs)


def _pack_folder(place: Place) -> str:
    return f"{place.build.work}/pack/{place.done['pack'].stage_digest}"


def _clean_up(place: Place, final: str, packed: tuple[Output, ...]) -> None:
    """Point the receipt of what was packed to the published files, and remove what packing left.

    The tree itself is there only if its mover died after giving the version its mark.
    """
    storage, folder = place.build.storage, _pack_folder(place)
    moved = replace(place.done["pack"], base=final, outputs=packed)
    storage.put(f"{folder}/receipt.json", moved.to_json())
    for name in ("parts", "records", "segments", "leases", "tree"):
        storage.delete(f"{folder}/{name}")
    storage.remove(_notes_key(place))


def make_manifest(place: Place) -> Manifest:
    """Return the manifest of what was packed; equal content gives an equal manifest."""
    build, packed, download = place.build, place.done["pack"], place.done["download"]
    facts, settings = build.facts, build.settings
    archives = [
        {"name": name, "size": ref["size"], **download.facts["digests"][name]}
        for name, ref in download.facts["archives"].items()
    ]
    return Manifest(
        dataset=facts.name,
        version=version_of(settings, packed.stage_digest),
        pack_digest=packed.stage_digest,
        licence=facts.licence,
        terms_url=facts.terms_url,
        archives=archives,
        settings=settings.select(_SETTINGS),
        notes=_notes(place),
        counts=packed.counts,
        class_counts=packed.facts["class_counts"],
        short_classes=packed.facts["short_classes"],
        dropped_classes={
            entry["wnid"]: entry["images"]
            for entry in place.done["filter_classes"].facts["dropped"]
        },
        bad_classes=place.done["untar"].facts.get("bad_classes", []),
        quarantined=packed.quarantined,
        repaired=packed.facts["repaired"],
        tools=packed.tools,
        files=tuple(ManifestFile(o.name, o.size, o.sha256) for o in packed.outputs),
    )


def _notes(place: Place) -> list[str]:
    facts, counts, done = place.build.facts, place.done["pack"].counts, place.done
    splits = done["download"].facts["splits"]
    notes = [f"{name} was {layout}." for name, layout in done["untar"].facts["layouts"].items()]
    notes += [
        f"The {counts[f'left_out_{split}']:,} images of split {split!r} have no published labels "
        "and are left out."
        for split in facts.unlabelled
        if split in splits
    ]
    notes += [
        f"The publisher's split {split!r} was not asked for and is left out."
        for split in done["download"].facts["left_out"]
    ]
    dropped = done["filter_classes"].counts
    if dropped["dropped_classes"]:
        notes.append(
            f"{dropped['dropped_classes']:,} classes of {dropped['dropped_images']:,} images are "
            f"left out, as {_words(FILTER_SETTINGS)} say."
        )
    lacking = done["untar"].counts
    for name, how in (("bad_classes", "could not be read"), ("missing_classes", "are missing")):
        if lacking.get(name):
            notes.append(f"Class tars that {how}: {lacking[name]:,}.")
    if place.build.settings.expect == "any":
        same = done["untar"].facts["published_counts"]
        found = "equal the published ones" if same else "differ from the published ones"
        known = {split: number for split, number in facts.expected.items() if number}
        notes.append(
            f"Built with --expect any: archive digests were not compared with the published ones, "
            f"and the numbers of images {found} ({known or 'images'} in {facts.classes} classes)."
        )
    names = {output.name for output in done["pack"].outputs}
    if (
        facts.labels == "devkit"
        and "imagefolder/files.parquet" in names
        and not any(name.endswith("/meta.bin") for name in names)
    ):
        notes.append("imagefolder has no meta.bin, since nothing tells the names of the classes.")
    if "lmdb/labels.txt" in names and f"lmdb/{MEAN}" not in names:
        notes.append("lmdb has no mean image, since its images are not surely of one size.")
    return notes


def _words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def verify_folder(folder: Path) -> dict[str, int]:
    """Check a published version in a folder; see ``verify_version``."""
    return verify_version(LocalStorage(folder))


def verify_version(storage: Storage) -> dict[str, int]:
    """Check a published version where it lies, without any receipt.

    Args:
        storage: Of the version's own folder or prefix.

    Returns:
        The counts of ``check_tree``.

    Raises:
        DatasetDamaged: It has no manifest, or a file differs from it.
    """
    tree = Tree(storage, ".")
    data = storage.read(MANIFEST)
    if data is None:
        raise DatasetDamaged(
            f"{storage.url} is no dataset version",
            expected=f"{MANIFEST} in it",
            remedy="Give data_dir/datasets/NAME/VERSION",
        )
    with typed_os_errors(storage.url):
        return check_tree(tree, parse_manifest(data, f"{storage.url}/{MANIFEST}"))
