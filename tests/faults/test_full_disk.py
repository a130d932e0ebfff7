"""A disk that is full from the start, and one that fills up while images are packed."""

from pathlib import Path

import pytest
from tests.support.airflow_runs import files_below
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.small_disk import enlarge, small_disk

from imagenet_etl import packing
from imagenet_etl.errors import NotEnoughSpace
from imagenet_etl.samples import SampleSize

GROWING = {"resize": "short_edge:200", "upscale": True, "version": "v1", "shards": 6}
"""Records that become larger than the images in the archive, which no check can foresee."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tiny_zip(tmp_path / "site", size=SampleSize(classes=4, train=60, val=2, test=0))


def published(folder: Path) -> dict[str, bytes]:
    return files_below(folder / "data/datasets")


def test_too_small_a_disk_is_refused_before_anything_is_packed(
    tmp_path: Path, archive: Path
) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        build = build_of(disk, archive)
        with pytest.raises(NotEnoughSpace, match="is too full"):
            run_stages(build)
        assert published(disk) == {}
        assert list((disk / "data/work/tiny_imagenet").glob("pack/*/tree")) == []


@pytest.mark.parametrize("formats", [("recordio",), ("imagefolder",)])
def test_disk_that_fills_up_while_packing_is_a_typed_error_and_the_rerun_goes_on(
    tmp_path: Path, archive: Path, formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_SPACE_RESERVE", 0)
    undisturbed = build_of(tmp_path / "large", archive, formats=formats, **GROWING)
    run_stages(undisturbed)
    with small_disk(tmp_path / "disk", "1100k") as disk:
        build = build_of(disk, archive, formats=formats, **GROWING)
        with pytest.raises(NotEnoughSpace, match="could not be written, the disk is full"):
            run_stages(build)
        assert published(disk) == {}
        assert not list((disk / "data/.staging").glob("*")), "staging is freed"
        finished = list(disk.glob("data/work/tiny_imagenet/pack/*/segments/*.json"))
        enlarge(disk, "64m")
        run_stages(build)
        assert finished, "the disk should have held the first segments"
        assert published(disk) == published(tmp_path / "large")
