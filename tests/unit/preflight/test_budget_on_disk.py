"""Budgets of archives that are given by path, half fetched or used up, and of reruns."""

import gzip
from pathlib import Path

import pytest
from tests.support.archives import ARCHIVE, STAGES, run_stages, tiny_zip
from tests.support.builds import tiny_build
from tests.unit.preflight.rooms import MakeBuild, Room

from imagenet_etl.archives import tar_gz
from imagenet_etl.build import Build
from imagenet_etl.errors import ConfigError, NotEnoughSpace
from imagenet_etl.preflight.archives import LABELS_BYTES, MAX_LISTED
from imagenet_etl.preflight.budget import Budget, budget_of, check_budget, told
from imagenet_etl.storage import LocalStorage

FALL11 = "imagenet_fall11"
TAR = "fall11_whole.tar"
MB = 10**6


def by_stage(budget: Budget) -> dict[str, int | None]:
    return {need.stage: need.bytes for need in budget.needs}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A tiny archive, away from the data folder."""
    (tmp_path / "given").mkdir()
    return tiny_zip(tmp_path / "given")


def test_an_archive_given_by_path_needs_no_room(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    tar = tmp_path / TAR
    with tar.open("wb") as file:
        file.truncate(300 * MB)  # holes are as good as bytes here
    budget = budget_of(make_build(FALL11, expect="any", sources={TAR: str(tar)}))
    assert by_stage(budget)["download"] == 0
    assert budget.images == 3000
    assert 300 * MB < (by_stage(budget)["pack"] or 0) < 303 * MB


def test_a_sample_that_fits_on_a_nearly_full_disk_is_let_through(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    room.free = 1 * MB
    check_budget(tiny_build(tmp_path / "data", expect="any", sources={ARCHIVE: str(sample)}))


def test_what_has_arrived_counts_no_more(make_build: MakeBuild, room: Room, tmp_path: Path) -> None:
    build = make_build("tiny_imagenet")
    part = tmp_path / f"data/archives/tiny_imagenet/{ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(8 * MB))
    assert by_stage(budget_of(build))["download"] == 248_100_043 - 8 * MB


def test_holes_in_what_has_arrived_are_still_to_be_filled(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    part = tmp_path / f"data/archives/tiny_imagenet/{ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.truncate(200 * MB)
        file.seek(100 * MB)
        file.write(bytes(1 << 20))
    left = by_stage(budget_of(make_build("tiny_imagenet")))["download"]
    assert left is not None
    assert 246 * MB < left < 248 * MB


def test_a_sample_of_unknown_size_is_said_to_be_unknown_and_not_counted(
    make_build: MakeBuild, room: Room
) -> None:
    room.free = 1
    url = "https://example.org/sample.tar"
    build = make_build(FALL11, expect="any", sources={TAR: url})
    budget = check_budget(build)
    assert by_stage(budget)["download"] is None
    assert by_stage(budget)["pack"] is None
    assert budget.volume_bytes is None
    assert sum("unknown" in line for line in told(budget)) == len(budget.needs) + 1


def test_an_archive_of_labels_is_small(make_build: MakeBuild, room: Room) -> None:
    published = 147_897_477_120 + 6_744_924_160
    assert by_stage(budget_of(make_build("ilsvrc2012")))["download"] == published + LABELS_BYTES


def test_one_split_alone_needs_its_archives_alone(make_build: MakeBuild, room: Room) -> None:
    budget = budget_of(make_build("ilsvrc2012", splits=("val",)))
    assert budget.images == 50_000
    assert (by_stage(budget)["download"] or 0) < 7e9


def test_a_compressed_tar_given_by_path_needs_room_for_the_tar(
    make_build: MakeBuild, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "winter21_whole.tar.gz"
    packed = tmp_path / name
    packed.write_bytes(gzip.compress(bytes(range(256)) * 400, 0))
    monkeypatch.setattr(tar_gz, "MAX_PACKED_BYTES", 1000)
    size = packed.stat().st_size
    build = make_build("imagenet_winter21", expect="any", sources={name: str(packed)})
    assert by_stage(budget_of(build))["download"] == size + size // 20


def test_a_half_unpacked_tar_gives_its_room_to_the_next_try(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    build = make_build("imagenet_winter21")
    before = by_stage(budget_of(build))["download"]
    folder = tmp_path / "data/archives/imagenet_winter21"
    folder.mkdir(parents=True)
    (folder / "winter21_whole.tar.1.part").write_bytes(bytes(MB))
    (folder / "winter21_whole.tar.gz.part").write_bytes(bytes(2 * MB))
    assert by_stage(budget_of(build))["download"] == (before or 0) - 3 * MB


def test_a_tar_in_the_compressed_ones_place_is_read_as_it_is(
    make_build: MakeBuild, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "winter21_whole.tar.gz"
    (tmp_path / "winter21.tar").write_bytes(bytes(100_000))
    monkeypatch.setattr(tar_gz, "MAX_PACKED_BYTES", 1000)
    sources = {name: str(tmp_path / "winter21.tar")}
    build = make_build("imagenet_winter21", expect="any", sources=sources)
    assert by_stage(budget_of(build))["download"] == 0


def test_a_folder_of_few_files_is_added_up(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    folder = tmp_path / "unpacked/n00000001"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"n00000001_{number}.JPEG").write_bytes(bytes(100_000))
    build = make_build(FALL11, expect="any", sources={TAR: str(folder.parent)})
    budget = budget_of(build)
    assert by_stage(budget)["download"] == 0
    assert (budget.images, budget.image_bytes) == (3, 300_000)


def test_of_a_folder_of_many_files_only_the_published_size_is_known(
    make_build: MakeBuild, room: Room, tmp_path: Path
) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for number in range(MAX_LISTED + 1):
        (folder / f"n{number:08d}.tar").touch()
    sources = {TAR: str(folder)}
    published = budget_of(make_build(FALL11, sources=sources))
    assert by_stage(published)["download"] == 0
    assert published.image_bytes == 1_310_000_000_000
    anything = budget_of(make_build(FALL11, expect="any", sources=sources))
    assert by_stage(anything)["pack"] is None


def test_a_source_that_cannot_be_used_is_told_as_ever(make_build: MakeBuild, room: Room) -> None:
    with pytest.raises(ConfigError):
        budget_of(make_build(FALL11, sources={TAR: "ftp://example.org/x.tar"}))


def built(tmp_path: Path, sample: Path, last: str, **settings: object) -> Build:
    values = {"expect": "any", "workers": 1, "sources": {ARCHIVE: str(sample)}, **settings}
    build = tiny_build(tmp_path / "data", **values)
    run_stages(build, last)
    return build


def test_a_rerun_needs_nothing_and_is_never_refused(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    build = built(tmp_path, sample, STAGES[-1])
    room.free, room.files, room.apart = 0, 0, {"work": 0}
    budget = check_budget(build)
    assert budget.needs == ()
    assert told(budget) == ["disk budget: nothing is left to be written"]


def test_stages_that_are_done_need_nothing(room: Room, tmp_path: Path, sample: Path) -> None:
    budget = budget_of(built(tmp_path, sample, "filter_classes"))
    assert list(by_stage(budget)) == ["download", "plan_shards", "pack"]
    assert by_stage(budget)["download"] == 0


def test_counted_images_take_the_place_of_guessed_ones(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    budget = budget_of(built(tmp_path, sample, "untar"))
    assert budget.images == 3 * (4 + 2)


def test_with_a_plan_only_its_missing_segments_count(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    build = built(tmp_path, sample, "plan_shards")
    planned = by_stage(budget_of(build))["pack"]
    assert planned is not None
    assert planned > 0
    run_stages(build, "pack")
    assert "pack" not in by_stage(budget_of(build))
    (receipt,) = (tmp_path / "data/work/tiny_imagenet/pack").glob("*/receipt.json")
    receipt.unlink()  # as if a kill had come between the last segment and the receipt
    assert by_stage(budget_of(build))["pack"] == 0


def test_another_format_of_a_built_dataset_needs_room_for_its_output_alone(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    built(tmp_path, sample, STAGES[-1])
    settings = {"expect": "any", "sources": {ARCHIVE: str(sample)}, "formats": ("webdataset",)}
    build = tiny_build(tmp_path / "data", **settings)
    assert list(by_stage(budget_of(build))) == ["download", "pack"]
    room.free = 0
    with pytest.raises(NotEnoughSpace, match="pack"):
        check_budget(build)


def test_an_archive_that_was_let_go_counts_again_when_it_is_needed(
    room: Room, tmp_path: Path, sample: Path
) -> None:
    storage = LocalStorage(tmp_path / "data")
    storage.put(f"archives/tiny_imagenet/{ARCHIVE}", sample.read_bytes())
    build = tiny_build(tmp_path / "data")
    assert by_stage(budget_of(build))["download"] == 0
    storage.delete(f"archives/tiny_imagenet/{ARCHIVE}")
    assert by_stage(budget_of(build))["download"] == 248_100_043
