"""The budget of datasets as they are published, and what is refused."""

import logging

import pytest
from tests.unit.preflight.rooms import TB, WHOLE, MakeBuild, Room

from imagenet_etl.errors import NotEnoughSpace, NotWritable
from imagenet_etl.preflight.budget import Budget, budget_of, check_budget, told

FALL11, WINTER21 = "imagenet_fall11", "imagenet_winter21"
GB = 10**9


def needed(budget: Budget, stage: str) -> int:
    """Return the bytes that a stage needs."""
    (found,) = [need.bytes for need in budget.needs if need.stage == stage]
    assert found is not None
    return found


def test_fall11_needs_its_archive_once_and_its_records_once(
    make_build: MakeBuild, room: Room
) -> None:
    budget = budget_of(make_build(FALL11))
    assert needed(budget, "download") == 1_310_000_000_000
    assert 1.31 * TB < needed(budget, "pack") < 1.33 * TB
    assert needed(budget, "untar") < 3 * GB
    assert needed(budget, "plan_shards") < 4 * GB
    assert budget.images == 14_197_122


def test_every_stage_that_writes_has_a_row(make_build: MakeBuild, room: Room) -> None:
    stages = [need.stage for need in budget_of(make_build(FALL11)).needs]
    assert stages == ["download", "untar", "plan_shards", "pack"]


def test_a_large_compressed_tar_needs_room_for_what_it_unpacks_to(
    make_build: MakeBuild, room: Room
) -> None:
    packed = 1_100_000_000_000
    assert needed(budget_of(make_build(WINTER21)), "download") == packed + packed * 105 // 100


def test_one_shard_of_many_segments_is_written_twice(make_build: MakeBuild, room: Room) -> None:
    once = needed(budget_of(make_build(FALL11, shards=0)), "pack")
    twice = needed(budget_of(make_build(FALL11, shards=8)), "pack")
    assert 1.9 < twice / once < 2.01


def test_shards_of_some_target_size_are_written_once(make_build: MakeBuild, room: Room) -> None:
    of_segments = needed(budget_of(make_build(FALL11, shard_mib=0)), "pack")
    assert needed(budget_of(make_build(FALL11, shard_mib=1024)), "pack") == of_segments


def test_only_the_split_whose_shards_are_joined_counts_twice(
    make_build: MakeBuild, room: Room
) -> None:
    joined = needed(budget_of(make_build("ilsvrc2012", val_shards=1)), "pack")
    apart = needed(budget_of(make_build("ilsvrc2012", val_shards=100)), "pack")
    assert 6.7 * GB < joined - apart < 7 * GB


def test_each_format_adds_its_own(make_build: MakeBuild, room: Room) -> None:
    def pack(*formats: str) -> int:
        return needed(budget_of(make_build("ilsvrc2012", formats=formats)), "pack")

    assert pack("recordio", "webdataset") > 1.9 * pack("recordio")
    assert pack("lmdb") > 1.9 * pack("webdataset")  # a database is joined from its parts
    assert pack("recordio:short_edge:480:png") > 4.5 * pack("recordio")


def test_loose_formats_need_inodes(make_build: MakeBuild, room: Room) -> None:
    formats = ("recordio", "imagefolder")
    build = make_build("ilsvrc2012", formats=formats, allow_loose_files=True)
    room.files = 1_000_000
    with pytest.raises(NotEnoughSpace) as caught:
        check_budget(build)
    assert "inodes" in caught.value.what
    assert caught.value.expected == "at least 1,331,167 free"
    assert caught.value.found == "1,000,000, 331,167 are missing"


def test_other_formats_need_no_inodes_to_speak_of(make_build: MakeBuild, room: Room) -> None:
    room.files = 1_000_000
    check_budget(make_build("ilsvrc2012"))


def test_a_disk_that_is_too_small_is_refused_with_all_numbers(
    make_build: MakeBuild, room: Room
) -> None:
    room.free = 2 * TB
    with pytest.raises(NotEnoughSpace) as caught:
        check_budget(make_build(FALL11, sources=WHOLE, min_images_per_class=0))
    error = caught.value
    assert "/data" in error.what
    told = "at least 2.63 TB free (download 1.31 TB, untar 2.56 GB, "
    assert error.expected.startswith(told)
    assert "pack 1.32 TB" in error.expected
    assert error.found.startswith("2.00 TB, 63")
    assert error.found.endswith(" GB are missing")
    for word in ("--source", "keep_archives", "fewer formats", "another data folder",
                 "docs/sizing.md"):  # fmt: skip
        assert word in error.remedy


def test_what_just_fits_is_let_through(make_build: MakeBuild, room: Room) -> None:
    build = make_build(FALL11, sources=WHOLE, min_images_per_class=0)
    total = sum(need.bytes or 0 for need in budget_of(build).needs)
    room.free = total
    check_budget(build)
    room.free = total - 1
    with pytest.raises(NotEnoughSpace):
        check_budget(build)


def test_file_systems_are_told_apart(make_build: MakeBuild, room: Room) -> None:
    room.free, room.apart = 2 * TB, {"archives": 1 * TB}
    build = make_build(FALL11, sources=WHOLE)
    rows = {disk.path: [n.stage for n in needs] for disk, needs in budget_of(build).by_disk()}
    assert rows["/mnt/archives"] == ["download"]
    assert rows["/data"][-1] == "pack"
    with pytest.raises(NotEnoughSpace, match="/mnt/archives") as caught:
        check_budget(build)
    assert caught.value.expected == "at least 1.31 TB free (download 1.31 TB)"
    assert caught.value.found == "1.00 TB, 310 GB are missing"


@pytest.mark.parametrize("place", ["archives", "work", "datasets", ".staging"])
def test_folders_between_which_files_cannot_be_renamed_are_refused(
    make_build: MakeBuild, room: Room, place: str
) -> None:
    room.apart = {place: 9 * TB}
    with pytest.raises(NotWritable, match=place) as caught:
        check_budget(make_build(FALL11, sources=WHOLE))
    assert "--source" in caught.value.remedy


def test_the_table_has_a_line_for_each_disk_and_stage(
    make_build: MakeBuild, room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "imagenet_etl.preflight"):
        budget = check_budget(make_build(FALL11))
    lines = told(budget)
    assert caplog.messages == lines
    assert any("download" in line and "1.31 TB" in line and "100 TB" in line for line in lines)
    ends = {len(line) for line in lines[1:-1] if line.endswith("B")}
    assert len(ends) == 1  # aligned


def test_the_volume_to_have_holds_archives_work_and_output(
    make_build: MakeBuild, room: Room
) -> None:
    budget = budget_of(make_build(FALL11))
    assert budget.volume_bytes is not None
    assert 2.7 * TB < budget.volume_bytes < 2.85 * TB
    assert budget.volume_bytes % (1 << 30) == 0
    assert "2,575 GiB" in told(budget)[-1]


def test_a_folder_that_is_not_there_yet_is_on_its_parents_disk(make_build: MakeBuild) -> None:
    budget = budget_of(make_build("tiny_imagenet"))
    assert len({disk.device for disk in budget.disks.values()}) == 1
    assert all(disk.free_bytes > 0 for disk in budget.disks.values())
