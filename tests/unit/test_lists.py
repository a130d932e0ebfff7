"""The plan as im2rec's list files."""

from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.cli import main
from imagenet_etl.errors import KeyExists, StageNotDone
from imagenet_etl.lists import write_lists


@pytest.mark.parametrize("shards", [0, 3])
def test_lists_are_those_that_come_with_the_records(tmp_path: Path, shards: int) -> None:
    build = build_of(tmp_path, tiny_zip(tmp_path), shards=shards, val_shards=2)
    version = Path(run_stages(build)["verify"].facts["path"])
    count = write_lists(build, tmp_path / "lists")
    packed = {path.name: path.read_bytes() for path in (version / "recordio").rglob("*.lst")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "lists").iterdir()} == packed
    assert count == len(packed)


def test_segments_of_one_shard_are_listed_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("shards", "config"):
        monkeypatch.setattr(f"imagenet_etl.{module}.SEGMENT_RECORDS", 5)
    monkeypatch.setattr("imagenet_etl.shards.SMALL_SEGMENT", 5)
    build = build_of(tmp_path, tiny_zip(tmp_path), shards=1)
    version = Path(run_stages(build)["verify"].facts["path"])
    write_lists(build, tmp_path / "lists")
    for path in (version / "recordio").rglob("*.lst"):
        assert (tmp_path / "lists" / path.name).read_bytes() == path.read_bytes()


def test_without_a_plan_there_is_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(StageNotDone, match="download"):
        write_lists(build_of(tmp_path, tiny_zip(tmp_path)), tmp_path / "lists")


def test_lists_replace_nothing(tmp_path: Path) -> None:
    build = build_of(tmp_path, tiny_zip(tmp_path))
    run_stages(build, "plan_shards")
    (tmp_path / "lists").mkdir()
    with pytest.raises(KeyExists):
        write_lists(build, tmp_path / "lists")


def test_the_command_writes_them(tmp_path: Path) -> None:
    options = ["tiny_imagenet", f"--data-dir={tmp_path / 'data'}", f"--source={tiny_zip(tmp_path)}",
               "--expect=any"]  # fmt: skip
    for stage in ("download", "untar", "restructure_val", "filter_classes", "plan_shards"):
        assert main([stage, *options]) == 0
    assert main(["lists", *options, f"--out={tmp_path / 'lists'}"]) == 0
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {
        "train_00000.lst",
        "val_00000.lst",
    }
