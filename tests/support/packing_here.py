"""Packing with the workers' code in the calling process: faults and sleep can be put into it."""

from __future__ import annotations

from imagenet_etl import chain, packing, pipeline
from imagenet_etl.assembly import assemble
from imagenet_etl.build import Build
from imagenet_etl.files import typed_os_errors
from imagenet_etl.held_segments import HeldSegments
from imagenet_etl.pack_worker import SegmentPacker


def pack_here(build: Build) -> None:
    """Do what ``pack`` does but for its receipt; ``build`` is locked and has its plan."""
    with typed_os_errors(build.storage.url):
        stage = pipeline.STAGES["pack"]
        place = chain.place_of(build, stage, pipeline.receipts_before(build, stage))
        segments = packing.read_segments(build.storage, place.done["plan_shards"])
        done = packing._finished(place, segments)
        with HeldSegments(place) as held:
            packer = SegmentPacker(packing._pack_job(place, held.staging))
            for segment in segments:
                if segment.number not in done:
                    job = held.lease(segment)
                    done[segment.number] = packer.pack(job, lambda _: None)
                    held.give_back(job)
        assemble(place, segments, [done[segment.number] for segment in segments])
