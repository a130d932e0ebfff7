"""kill -9 and a full disk while a gzipped tar is unpacked: nothing half-made is used or stays."""

from pathlib import Path

import pytest
from tests.support import children
from tests.support.small_disk import enlarge, small_disk
from tests.support.winter21 import (
    FACTS,
    count_as_large,
    packed_sample,
    sha256_of,
    tars_of,
    unfinished_in,
    winter21_build,
)

from imagenet_etl.download.archive import noted, verified_archive
from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.pipeline import run_stage

# Written so far must be more than one block, else all of it is still in memory.
SIZES = [900] * 8
_STALLED = """
    import sys, time
    from pathlib import Path
    from imagenet_etl.archives import kinds
    from imagenet_etl.download.archive import verified_archive
    from imagenet_etl.streams import HashedFile
    from tests.support.winter21 import FACTS, winter21_build

    kinds.MAX_PACKED_BYTES = 100
    write = HashedFile.write

    def stalled(self, *pieces):
        write(self, *pieces)
        if self.size > 9 << 20:
            print("stalled", flush=True)
            time.sleep(600)

    HashedFile.write = stalled
    verified_archive(winter21_build(Path(sys.argv[1]), sys.argv[2], "run-1"), FACTS)
"""


def test_what_a_killed_process_left_is_swept_and_unpacked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, data = packed_sample(tmp_path / "mine", SIZES), tmp_path / "data"
    with children.python(_STALLED, data, archive) as process:
        assert children.told(process) == "stalled"
    (left,) = unfinished_in(data)
    assert left.stat().st_size > 0
    assert tars_of(data) == []
    count_as_large(monkeypatch)
    build = winter21_build(data, archive, "run-2")
    assert noted(build, FACTS) is None
    note, _ = verified_archive(build, FACTS)
    (tar,) = tars_of(data)
    assert sha256_of(tar.read_bytes()) == note.sha256
    assert unfinished_in(data) == []
    undisturbed, _ = verified_archive(winter21_build(tmp_path / "other", archive), FACTS)
    assert undisturbed.digests == note.digests


def test_a_disk_that_fills_up_is_a_typed_error_and_gets_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_as_large(monkeypatch)
    archive = packed_sample(tmp_path / "mine", SIZES)
    with small_disk(tmp_path / "disk", "8m") as disk:
        build = winter21_build(disk / "data", archive)
        with build.locked() as build:
            # It shrank to much less than the disk has, which no image that is worth it does.
            with pytest.raises(NotEnoughSpace, match="could not be written, the disk is full"):
                run_stage(build, "download")
            assert unfinished_in(disk / "data") == tars_of(disk / "data") == []
            enlarge(disk, "64m")
            run_stage(build, "download")
        assert len(tars_of(disk / "data")) == 1
