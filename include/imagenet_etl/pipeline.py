"""The stages in their order, and the one way to run any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imagenet_etl.aws.s3_backup import back_up_to_s3, backup_is_there
from imagenet_etl.aws.snapshot import snapshot_ebs, snapshot_is_there
from imagenet_etl.build import Build
from imagenet_etl.download.stage import archives_unchanged, download, folders_whole
from imagenet_etl.download.urls import mask_url
from imagenet_etl.errors import ConfigError, StageNotDone
from imagenet_etl.files import typed_os_errors
from imagenet_etl.images.transform import codec_versions
from imagenet_etl.labels.restructure import restructure_val
from imagenet_etl.packing import pack, pack_group, tree_is_whole
from imagenet_etl.receipts import Receipt, stage_digest_of
from imagenet_etl.selection import Group, plan_shards
from imagenet_etl.stage import Place, Stage
from imagenet_etl.untar import untar
from imagenet_etl.verify import PACK_SETTINGS, PLAN_SETTINGS, verify

STAGES = {
    stage.name: stage
    for stage in (
        Stage("download", 2, ("sources", "expect"), download, still_true=archives_unchanged,
              is_whole=folders_whole),
        Stage("untar", 2, ("expect",), untar),
        Stage("restructure_val", 2, (), restructure_val),
        Stage("plan_shards", 2, PLAN_SETTINGS, plan_shards),
        Stage("pack", 2, PACK_SETTINGS, pack, tools=codec_versions, is_whole=tree_is_whole),
        Stage("verify", 2, (), verify, is_whole=tree_is_whole),
        Stage("back_up_to_s3", 1, ("s3_uri",), back_up_to_s3, after="verify",
              still_true=backup_is_there),
        Stage("snapshot_ebs", 1, ("ebs_volume_id",), snapshot_ebs, after="verify",
              still_true=snapshot_is_there),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A stage's receipt, and whether it was there already."""

    receipt: Receipt
    reused: bool

    def told(self) -> str:
        """Return the counts in words."""
        return counts_in_words(self.receipt.counts)


def counts_in_words(counts: dict[str, int]) -> str:
    """Return counts for people, such as ``2,000 train images, 20 classes``."""
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items())


def run_stage(build: Build, name: str) -> Outcome:
    """Run one stage, unless a receipt shows that its result is there already.

    Raises:
        StageNotDone: An earlier stage has no valid receipt.
        NothingToDo: An optional stage was not asked for.
        EtlError: Whatever the stage raises.
    """
    stage = _stage(name)
    with typed_os_errors(build.storage.url):
        done = _receipts_before(build, stage)
        place = _place(build, stage, done)
        receipt = _valid_receipt(place, stage)
        if receipt is not None and stage.is_whole(build, receipt):
            return Outcome(receipt, reused=True)
        return Outcome(_run(place, stage), reused=False)


def run_pack_group(build: Build, group: Group) -> dict[str, int]:
    """Pack one group of segments, unless the whole stage is done; return its counts.

    Raises:
        StageNotDone: The plan has no valid receipt.
        EtlError: Whatever packing raises.
    """
    stage = _stage("pack")
    with typed_os_errors(build.storage.url):
        place = _place(build, stage, _receipts_before(build, stage))
        receipt = _valid_receipt(place, stage)
        if receipt is not None and stage.is_whole(build, receipt):
            return {"segments": 0, "images": 0, "quarantined": 0}
        return pack_group(place, group)


def receipts_up_to(build: Build, name: str) -> dict[str, Receipt]:
    """Return the valid receipts of a stage and of all before it, by name.

    Raises:
        StageNotDone: One of them is missing or no longer matches.
    """
    stage = _stage(name)
    done = _receipts_before(build, stage)
    return done | {name: _require(build, stage, done)}


def find_receipt(build: Build, name: str) -> Receipt | None:
    """Return a stage's valid receipt, or None when it is not done."""
    try:
        return receipts_up_to(build, name)[name]
    except StageNotDone:
        return None


def _stage(name: str) -> Stage:
    if name not in STAGES:
        raise ConfigError(f"{name!r} is not a stage", expected=" or ".join(STAGES))
    return STAGES[name]


def _chain_before(build: Build, stage: Stage) -> Iterator[Stage]:
    names = build.facts.stages
    last = names.index(stage.after) + 1 if stage.after else names.index(stage.name)
    yield from (STAGES[name] for name in names[:last])


def _receipts_before(build: Build, stage: Stage) -> dict[str, Receipt]:
    done: dict[str, Receipt] = {}
    for earlier in _chain_before(build, stage):
        done[earlier.name] = _require(build, earlier, done)
    return done


def _require(build: Build, stage: Stage, done: dict[str, Receipt]) -> Receipt:
    receipt = _valid_receipt(_place(build, stage, done), stage)
    if receipt is None:
        raise StageNotDone(
            f"stage {stage.name} of {build.facts.name} is not done with these settings",
            expected=f"a valid receipt under {build.work}/{stage.name}",
            remedy=f"Run {stage.name} first, or prepare, which runs all stages",
        )
    return receipt


def _place(build: Build, stage: Stage, done: dict[str, Receipt]) -> Place:
    digest = stage_digest_of(
        stage.name,
        stage.version,
        _settings_read(build, stage),
        {name: receipt.digest for name, receipt in list(done.items())[-1:]},
        stage.tools(),
    )
    return Place(build, done, digest, f"{build.work}/{stage.name}/{digest}")


def _settings_read(build: Build, stage: Stage) -> dict[str, Any]:
    """Return what a stage reads of the settings; a key in a URL neither decides nor is shown."""
    settings = build.settings.select(stage.reads)
    if "sources" in settings:
        settings["sources"] = {k: mask_url(url) for k, url in settings["sources"].items()}
    return settings


def _valid_receipt(place: Place, stage: Stage) -> Receipt | None:
    key = f"{place.base}/receipt.json"
    data = place.build.storage.read(key)
    if data is None:
        return None
    receipt = Receipt.from_json(data, key)
    if receipt is None:
        return None
    return receipt if stage.still_true(place.build, receipt) else None


def _run(place: Place, stage: Stage) -> Receipt:
    build, start = place.build, time.monotonic()
    result = stage.run(place)
    receipt = Receipt(
        stage=stage.name,
        stage_digest=place.digest,
        base=place.base if result.base is None else result.base,
        outputs=result.outputs,
        counts=result.counts,
        facts=result.facts,
        inputs={name: r.digest for name, r in list(place.done.items())[-1:]},
        settings=_settings_read(build, stage),
        tools=stage.tools(),
        quarantined=result.quarantined,
        identity=result.identity,
        seconds=round(time.monotonic() - start, 3),
    )
    build.check_owner()
    build.storage.put(f"{place.base}/receipt.json", receipt.to_json())
    return receipt
