"""What is done already: the receipts of stages that follow each other, each leading to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from imagenet_etl.build import Build
from imagenet_etl.download.asked import source_marks
from imagenet_etl.download.urls import mask_url
from imagenet_etl.errors import StageNotDone
from imagenet_etl.receipts import Receipt, stage_digest_of
from imagenet_etl.stage import Place, Stage
from imagenet_etl.storage.many import each


def receipts_of(
    build: Build,
    chain: Iterable[Stage],
    known: Mapping[str, Receipt] = MappingProxyType({}),
) -> dict[str, Receipt]:
    """Return the valid receipts of stages that follow each other, by name.

    Receipts are read one after the other. What they tell of is looked at afterwards, since in a
    bucket that is done side by side.

    Args:
        build: The run's view of the dataset.
        chain: The stages, from the first on.
        known: Receipts of some of them that are believed without another look.

    Raises:
        StageNotDone: A receipt is missing or no longer matches.
    """
    done: dict[str, Receipt] = {}
    read: list[Stage] = []
    for stage in chain:
        if stage.name not in known:
            read.append(stage)
        receipt = known.get(stage.name) or _read_receipt(place_of(build, stage, done))
        if receipt is None:
            break
        done[stage.name] = receipt

    # In threads nothing may make an AWS client; in a bucket no stage has a backup or snapshot.
    def holds(stage: Stage) -> bool:
        return stage.name in done and stage.still_true(build, done[stage.name])

    for stage, is_valid in zip(read, each(build.storage, holds, read), strict=True):
        if not is_valid:
            raise StageNotDone(
                f"stage {stage.name} of {build.facts.name} is not done with these settings",
                expected=f"a valid receipt under {build.work}/{stage.name}",
                remedy=f"Run {stage.name} first, or prepare, which runs all stages",
            )
    return done


def place_of(build: Build, stage: Stage, done: dict[str, Receipt]) -> Place:
    """Return where a stage works, by the receipts before it."""
    digest = stage_digest_of(
        stage.name,
        stage.version,
        settings_read(build, stage),
        {name: receipt.digest for name, receipt in list(done.items())[-1:]},
        stage.tools(),
    )
    return Place(build, done, digest, f"{build.work}/{stage.name}/{digest}")


def settings_read(build: Build, stage: Stage) -> dict[str, Any]:
    """Return what a stage reads of the settings; what may be a key in a URL is not shown."""
    settings = build.settings.select(stage.reads)
    if "sources" in settings:
        settings["sources"] = {k: mask_url(url) for k, url in settings["sources"].items()}
        if marks := source_marks(build):
            settings["source_marks"] = marks
    return settings


def valid_receipt(place: Place, stage: Stage) -> Receipt | None:
    """Return a stage's receipt, if what it tells of is still there."""
    receipt = _read_receipt(place)
    return receipt if receipt is not None and stage.still_true(place.build, receipt) else None


def _read_receipt(place: Place) -> Receipt | None:
    key = f"{place.base}/receipt.json"
    data = place.build.storage.read(key)
    return None if data is None else Receipt.from_json(data, key)
