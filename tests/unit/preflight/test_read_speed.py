"""Reading speed on real files, and the hours it makes."""

import os
from pathlib import Path

import pytest

from imagenet_etl.preflight import read_speed
from imagenet_etl.preflight.read_speed import (
    LEAST_BYTES,
    READ_BYTES,
    ReadSpeed,
    files_to_read,
    hours,
    measure_reads,
    told,
)
from imagenet_etl.preflight.uncached import ALIGNED, Uncached

MB = 10**6
IMAGES, STORED = 14_197_122, 1_310_000 * MB
SPINNING = ReadSpeed(random_s=0.012, many_per_s=120, sequential=150 * MB, is_uncached=True)
NVME = ReadSpeed(random_s=0.0002, many_per_s=30_000, sequential=2000 * MB, is_uncached=True)


def archive(path: Path, size: int = 40 * MB) -> Path:
    path.write_bytes(os.urandom(1 << 20) * (size >> 20))
    return path


def test_a_real_file_is_measured(tmp_path: Path) -> None:
    speed = measure_reads([archive(tmp_path / "a.tar")])
    assert speed is not None
    assert speed.random_s > 0
    assert speed.many_per_s > 0
    assert speed.sequential > 0


def test_several_files_are_measured_as_one(tmp_path: Path) -> None:
    files = [archive(tmp_path / f"{name}.tar", 15 * MB) for name in "abc"]
    assert measure_reads(files) is not None


def test_a_small_file_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "small.tar"
    with path.open("wb") as file:
        file.truncate(LEAST_BYTES - 1)
    assert measure_reads([path]) is None


def test_a_slow_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def slow(self: Uncached, offset: int, size: int) -> int:
        reads.append((offset, size))
        return size

    path = archive(tmp_path / "a.tar")
    monkeypatch.setattr(Uncached, "read", slow)
    measure_reads([path], limit_s=0.0)
    # One to open, one by itself, one for each thread; the sequence has no time left at all.
    assert len(reads) == 1 + 1 + read_speed.THREADS


def test_the_seed_decides_which_places_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, places = archive(tmp_path / "a.tar"), []
    real = Uncached.read

    def noted(self: Uncached, offset: int, size: int) -> int:
        places.append((offset, size))
        return real(self, offset, size)

    monkeypatch.setattr(Uncached, "read", noted)

    def measured(seed: int) -> list[tuple[int, int]]:
        places.clear()
        measure_reads([path], seed)
        return sorted(places)

    first = measured(1)
    assert first == measured(1)
    assert first != measured(2)
    at_random = [offset for offset, size in first if size == READ_BYTES]
    assert len(set(at_random)) == len(at_random)  # none would come from the cache
    assert max(at_random) + READ_BYTES <= path.stat().st_size


def test_without_direct_reads_the_cache_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return opened(path, flags, *more)

    monkeypatch.setattr(os, "open", refusing)
    speed = measure_reads([archive(tmp_path / "a.tar")])
    assert speed is not None
    assert not speed.is_uncached
    assert "cache" in told(speed, hours(speed, 1, 1, 1))[0]


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_read_is_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(3 * ALIGNED + 5))
    if not direct:
        monkeypatch.setattr(Uncached, "_open_direct", lambda self, path: False)
    file = Uncached(path)
    file.forget(0, ALIGNED)
    assert file.read(ALIGNED, 2 * ALIGNED) == 2 * ALIGNED
    assert file.read(2 * ALIGNED, 2 * ALIGNED) == ALIGNED + 5  # up to the end
    file.close()


def test_spinning_disks_want_blocks() -> None:
    times = hours(SPINNING, IMAGES, STORED, workers=16)
    assert times["global"] == pytest.approx(IMAGES / 120 / 3600)
    assert times["none"] == pytest.approx(STORED / 150e6 / 3600)
    assert times["none"] < times["blocks"] < 1.3 * times["none"]
    lines = told(SPINNING, times, "global")
    assert lines[1] == "reading alone: global 32.9 h, blocks 2.9 h, none 2.4 h"
    assert "--shuffle blocks" in lines[-1]


def test_fast_disks_want_no_advice() -> None:
    times = hours(NVME, IMAGES, STORED, workers=16)
    assert times["global"] < 0.25
    assert len(told(NVME, times, "global")) == 2


def test_short_jobs_want_no_advice() -> None:
    assert len(told(SPINNING, hours(SPINNING, 10_000, 1000 * MB, 2), "global")) == 2


@pytest.mark.parametrize("shuffle", ["blocks", "none", ""])
def test_who_has_chosen_otherwise_wants_no_advice(shuffle: str) -> None:
    assert len(told(SPINNING, hours(SPINNING, IMAGES, STORED, 2), shuffle)) == 2


def test_workers_read_at_once_up_to_what_was_measured() -> None:
    assert NVME.reads_per_s(1) == pytest.approx(5000)
    assert NVME.reads_per_s(4) == pytest.approx(20_000)
    assert NVME.reads_per_s(64) == 30_000
    assert NVME.reads_per_s(0) == NVME.reads_per_s(1)


def test_no_order_is_faster_than_reading_in_order() -> None:
    times = hours(NVME, 10, STORED, workers=64)
    assert times["global"] == times["none"]


def test_larger_blocks_cost_fewer_seeks() -> None:
    few = hours(SPINNING, IMAGES, STORED, 2, block=512)["blocks"]
    assert few < hours(SPINNING, IMAGES, STORED, 2, block=64)["blocks"]


def test_the_largest_class_tars_stand_for_a_folder(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"n{number:08d}.tar").write_bytes(bytes(number * 100))
    (tmp_path / "folder").mkdir()
    names = [path.name for path in files_to_read(tmp_path, count=2)]
    assert names == ["n00000004.tar", "n00000003.tar"]
    assert files_to_read(tmp_path / "n00000001.tar") == [tmp_path / "n00000001.tar"]


def test_a_folder_around_the_class_tars_is_no_matter(tmp_path: Path) -> None:
    inside = tmp_path / "fall11_whole"
    inside.mkdir()
    (inside / "n00000001.tar").touch()
    assert files_to_read(tmp_path) == [inside / "n00000001.tar"]


def test_loose_images_are_nothing_to_measure_by(tmp_path: Path) -> None:
    for wnid in ("n00000001", "n00000002"):
        (tmp_path / wnid).mkdir()
        (tmp_path / wnid / "a.JPEG").touch()
    assert measure_reads(files_to_read(tmp_path)) is None
