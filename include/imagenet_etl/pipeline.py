"""The stages in their order, and the one way to run any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from imagenet_etl.aws.ebs.stages import (
    copies_are_there,
    copy_snapshot_stage,
    share_snapshot_stage,
    shares_are_there,
    snapshot_ebs,
    snapshot_is_there,
    why_no_copy,
    why_no_snapshot,
    why_not_shared,
)
from imagenet_etl.aws.s3_backup import (
    BACKUP_SETTINGS,
    back_up_to_s3,
    backup_is_there,
    backup_is_whole,
    why_no_backup,
)
from imagenet_etl.build import Build
from imagenet_etl.chain import place_of, receipts_of, settings_read, valid_receipt
from imagenet_etl.claims import check_unclaimed
from imagenet_etl.class_filter import FILTER_SETTINGS, filter_classes, why_not_filtered
from imagenet_etl.download.stage import (
    archives_there,
    archives_unchanged,
    download,
    folders_whole,
    sources_unchanged,
)
from imagenet_etl.errors import ConfigError, LeaseLost, NothingToDo, StageNotDone
from imagenet_etl.files import typed_os_errors
from imagenet_etl.images.transform import codec_versions
from imagenet_etl.labels.restructure import restructure_val
from imagenet_etl.manifest import tree_is_there, version_of
from imagenet_etl.packing import pack, pack_is_whole, tree_is_whole
from imagenet_etl.plan import PLAN_SETTINGS, plan_shards
from imagenet_etl.preflight.budget import check_budget
from imagenet_etl.receipts import Receipt
from imagenet_etl.report import report
from imagenet_etl.stage import Outcome, Place, Result, Stage
from imagenet_etl.untar import index_is_good, remove_parts, untar
from imagenet_etl.val_split import SPLIT_SETTINGS, split_val, why_not_split
from imagenet_etl.verify import LABEL_SETTINGS, PACK_SETTINGS, verify


def _can_go_on(build: Build, receipt: Receipt) -> bool:
    """Return whether nothing upstream has changed, and no archive that was let go is needed."""
    return (
        folders_whole(build, receipt)
        and (archives_there(build, receipt) or find_receipt(build, "verify") is not None)
        and sources_unchanged(build)
    )


STAGES = {
    stage.name: stage
    for stage in (
        Stage("download", 3, ("sources", "splits", "expect"), download,
              still_true=archives_unchanged, is_whole=_can_go_on),
        Stage("untar", 4, ("expect",), untar, still_true=index_is_good, tidy=remove_parts),
        Stage("restructure_val", 3, ("expect", *LABEL_SETTINGS), restructure_val),
        Stage("filter_classes", 2, FILTER_SETTINGS, filter_classes, why_idle=why_not_filtered),
        Stage("split_val", 1, SPLIT_SETTINGS, split_val, why_idle=why_not_split),
        Stage("plan_shards", 4, PLAN_SETTINGS, plan_shards),
        Stage("pack", 4, PACK_SETTINGS, pack, tools=codec_versions,
              still_true=tree_is_there, is_whole=pack_is_whole),
        Stage("verify", 4, (), verify, is_whole=tree_is_whole),
        Stage("report", 1, (), report),
        Stage("back_up_to_s3", 3, BACKUP_SETTINGS, back_up_to_s3, after="verify",
              not_asked=why_no_backup, still_true=backup_is_there, is_whole=backup_is_whole),
        Stage("snapshot_ebs", 2, ("ebs_volume_id",), snapshot_ebs, after="verify",
              not_asked=why_no_snapshot, still_true=snapshot_is_there),
        Stage("copy_snapshot", 1, ("snapshot_regions", "snapshot_kms_key"), copy_snapshot_stage,
              after="snapshot_ebs", not_asked=why_no_copy, still_true=copies_are_there),
        Stage("share_snapshot", 1, ("share_with", "snapshot_regions", "snapshot_kms_key"),
              share_snapshot_stage, after="snapshot_ebs", not_asked=why_not_shared,
              still_true=shares_are_there),
    )
}  # fmt: skip


def run_stage(build: Build, name: str) -> Outcome:
    """Run one stage, unless a receipt shows that its result is there already.

    Raises:
        StageNotDone: An earlier stage has no valid receipt.
        NothingToDo: An optional stage was not asked for.
        NotEnoughSpace: It is the first, and there is no room for what the others will write.
        EtlError: Whatever the stage raises.
    """
    stage = stage_of(name)
    if reason := stage.not_asked(build.settings):
        raise NothingToDo(reason)
    with typed_os_errors(build.storage.url):
        if name == build.facts.stages[0]:
            check_budget(build)
        done = receipts_before(build, stage)
        if "pack" in done:
            check_unclaimed(build, version_of(build.settings, done["pack"].stage_digest))
        place = place_of(build, stage, done)
        receipt = valid_receipt(place, stage)
        idle = stage.why_idle(build.settings)
        if receipt is not None and stage.is_whole(build, receipt):
            return Outcome(receipt, reused=True, idle=idle)
        return Outcome(_run(place, stage), reused=False, idle=idle)


def run_stage_as(build: Build, name: str, run: Callable[[Place], Result]) -> Receipt:
    """Run one stage by another function than its own, whether its result is there or not.

    Raises:
        StageNotDone: An earlier stage has no valid receipt.
        EtlError: Whatever the function raises.
    """
    stage = stage_of(name)
    place = place_of(build, stage, receipts_before(build, stage))
    return _run(place, replace(stage, run=run))


def receipts_up_to(build: Build, name: str) -> dict[str, Receipt]:
    """Return the valid receipts of a stage and of all before it, by name.

    Raises:
        StageNotDone: One of them is missing or no longer matches.
    """
    stage = stage_of(name)
    return receipts_of(build, [*_chain_before(build, stage), stage])


def find_receipt(
    build: Build, name: str, known: Mapping[str, Receipt] = MappingProxyType({})
) -> Receipt | None:
    """Return a stage's valid receipt, or None when it is not done, or not asked for.

    Args:
        build: The run's view of the dataset.
        name: The stage.
        known: Receipts of stages before it that are believed without another look.
    """
    stage = stage_of(name)
    if stage.not_asked(build.settings):
        return None
    try:
        return receipts_of(build, [*_chain_before(build, stage), stage], known)[name]
    except StageNotDone:
        return None


def stage_of(name: str) -> Stage:
    """Return a stage by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in STAGES:
        raise ConfigError(f"{name!r} is not a stage", expected=" or ".join(STAGES))
    return STAGES[name]


def _chain_before(build: Build, stage: Stage) -> Iterator[Stage]:
    names = build.facts.stages
    if stage.after and stage.after not in names:
        before = stage_of(stage.after)
        yield from _chain_before(build, before)
        yield before
        return
    if (stage.after or stage.name) not in names:
        raise ConfigError(
            f"{build.facts.title} has no stage {stage.name}", expected=" or ".join(names)
        )
    last = names.index(stage.after) + 1 if stage.after else names.index(stage.name)
    yield from (STAGES[name] for name in names[:last])


def receipts_before(build: Build, stage: Stage) -> dict[str, Receipt]:
    """Return the valid receipts of the stages that one builds on, by name.

    Raises:
        StageNotDone: One of them is missing or no longer matches.
    """
    return receipts_of(build, _chain_before(build, stage))


def _run(place: Place, stage: Stage) -> Receipt:
    build, start = place.build, time.monotonic()
    key = f"{place.base}/receipt.json"
    before = build.storage.stat(key)
    result = stage.run(place)
    receipt = Receipt(
        stage=stage.name,
        stage_digest=place.digest,
        base=place.base if result.base is None else result.base,
        outputs=result.outputs,
        counts=result.counts,
        facts=result.facts,
        inputs={name: r.digest for name, r in list(place.done.items())[-1:]},
        settings=settings_read(build, stage),
        tools=stage.tools(),
        quarantined=result.quarantined,
        identity=result.identity,
        seconds=round(time.monotonic() - start, 3),
    )
    build.check_owner()
    if not build.storage.swap(key, receipt.to_json(), before):
        receipt = _others(place, stage, receipt)
    stage.tidy(place)
    return receipt


def _others(place: Place, stage: Stage, mine: Receipt) -> Receipt:
    """Return the receipt that another task wrote while this one worked.

    Raises:
        LeaseLost: It tells of another result.
    """
    theirs = valid_receipt(place, stage)
    if theirs is None or theirs.digest != mine.digest:
        raise LeaseLost(
            f"stage {stage.name} was done by another task meanwhile",
            expected=f"result {mine.digest[:12]}",
            found=theirs.digest[:12] if theirs else "one that no longer holds",
            remedy="Run again: it goes on from what is there",
        )
    return theirs
