"""Stages that are shared out among tasks of a run: archives that are fetched, groups to pack."""

from __future__ import annotations

from functools import partial

from imagenet_etl.build import Build
from imagenet_etl.chain import place_of, valid_receipt
from imagenet_etl.download.archive import verified_archive
from imagenet_etl.download.held import settled
from imagenet_etl.download.notes import Note
from imagenet_etl.download.sources import Sources, sources_of
from imagenet_etl.download.stage import result_of
from imagenet_etl.errors import LeaseLost, NothingToDo
from imagenet_etl.files import typed_os_errors
from imagenet_etl.packing import pack_group
from imagenet_etl.pipeline import (
    find_receipt,
    receipts_before,
    receipts_up_to,
    run_stage_as,
    stage_of,
)
from imagenet_etl.preflight.budget import check_budget
from imagenet_etl.selection import Group, groups_of
from imagenet_etl.stage import Place, counts_in_words


def run_download_of(build: Build, archive: str) -> tuple[Note, int]:
    """Fetch or verify one archive; who finds all of them verified completes the stage.

    Any number of processes of a run may do this at once, each for an archive of its own, and none
    waits for another: the stage is left to the last of them. Where one source holds everything, the
    first of the archives that it stands for stands for it.

    Returns:
        The archive's note, and how many bytes were fetched for it.

    Raises:
        NothingToDo: The stage is done, or the run needs no such archive.
        NotEnoughSpace: There is no room for what the run will write.
        EtlError: Whatever fetching raises.
    """
    stage = stage_of("download")
    with typed_os_errors(build.storage.url):
        check_budget(build)
        place = place_of(build, stage, {})
        receipt = valid_receipt(place, stage)
        if receipt is not None and stage.is_whole(build, receipt):
            raise NothingToDo(f"the receipt is valid: {counts_in_words(receipt.counts)}")
        sources = sources_of(build)
        mine = sources.of(archive)
        if mine is None:
            raise NothingToDo(f"this run needs no {archive} of its own")
        note, fetched_bytes = verified_archive(build, mine.archive, source=mine.place)
        _complete_download(place, sources, fetched_bytes)
        return note, fetched_bytes


def _complete_download(place: Place, sources: Sources, fetched_bytes: int) -> None:
    """Complete the stage from the archives' notes, unless a task of this run is still at one.

    Nothing is waited for. A sibling that replaced its archive meanwhile may have completed the
    stage already, and then this older receipt, which came last, has to be made again.
    """
    stage, build = stage_of("download"), place.build
    receipt = None
    while receipt is None or not stage.still_true(build, receipt):
        notes = [settled(build, source) for source in sources.archives]
        ready = [note for note in notes if note is not None]
        if len(ready) < len(notes):
            return
        told = partial(result_of, sources=sources, notes=ready, fetched_bytes=fetched_bytes)
        try:
            receipt = run_stage_as(build, "download", told)
        except LeaseLost:
            build.check_owner()  # else a sibling was faster, by other notes


def run_pack_group(build: Build, group: Group) -> dict[str, int]:
    """Pack one group of segments, unless the whole stage is done; return its counts.

    Raises:
        StageNotDone: The plan has no valid receipt.
        EtlError: Whatever packing raises.
    """
    stage = stage_of("pack")
    with typed_os_errors(build.storage.url):
        place = place_of(build, stage, receipts_before(build, stage))
        receipt = valid_receipt(place, stage)
        if receipt is not None and stage.is_whole(build, receipt):
            return dict.fromkeys(("segments", "images", "quarantined"), 0)
        return pack_group(place, group)


def groups_to_pack(build: Build) -> list[str]:
    """Return the groups, as ``I/N``, that packing may be shared out by; none when it is done.

    Raises:
        StageNotDone: The plan has no valid receipt.
    """
    done = receipts_up_to(build, "plan_shards")
    plan, packed = done["plan_shards"], find_receipt(build, "pack", done)
    if packed is not None and stage_of("pack").is_whole(build, packed):
        return []
    images = sum(sum(classes.values()) for classes in plan.facts["planned"].values())
    return [str(group) for group in groups_of(plan.counts["segments"], images)]
