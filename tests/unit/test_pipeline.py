"""Which stages run again, and which do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoRegionError
from tests.support.airflow_runs import files_below
from tests.support.archives import STAGES, build_of, run_stages, tiny_zip

from imagenet_etl.build import Build, freeze_settings, frozen_settings
from imagenet_etl.config import Settings
from imagenet_etl.errors import (
    AlreadyRunning,
    CloudError,
    ConfigError,
    DatasetDamaged,
    LeaseLost,
    NothingToDo,
    StageNotDone,
    TooManyBadImages,
    VersionConflict,
)
from imagenet_etl.leases import PARKED_FOR_S, Owner, acquire
from imagenet_etl.pipeline import find_receipt, receipts_up_to, run_stage
from imagenet_etl.storage import LocalStorage


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return tiny_zip(folder)


def ran(build: Build) -> list[str]:
    """Run all stages; return the names of those that had something to do."""
    with build.locked() as build:
        return [name for name in STAGES if not run_stage(build, name).reused]


def versions(tmp_path: Path) -> list[Path]:
    return sorted(p for p in (tmp_path / "data/datasets/tiny_imagenet").iterdir() if p.is_dir())


def test_first_run_does_everything_and_a_rerun_nothing(tmp_path: Path, archive: Path) -> None:
    assert ran(build_of(tmp_path, archive)) == list(STAGES)
    assert ran(build_of(tmp_path, archive)) == []


@pytest.mark.parametrize(
    ("setting", "value", "repeated"),
    [
        ("workers", 2, []),
        ("max_bad", 5, []),
        ("s3_uri", "s3://bucket/prefix", []),
        ("ebs_volume_id", "vol-0123456789abcdef0", []),
        ("quality", 50, ["pack", "verify", "report"]),
        ("resize", "short_edge:32", ["pack", "verify", "report"]),
        ("formats", ("recordio", "imagefolder"), ["pack", "verify", "report"]),
        ("version", "named", ["pack", "verify", "report"]),
        ("seed", 7, ["plan_shards", "pack", "verify", "report"]),
        ("shards", 2, ["plan_shards", "pack", "verify", "report"]),
    ],
)
def test_changed_setting_repeats_only_what_depends_on_it(
    tmp_path: Path, archive: Path, setting: str, value: Any, repeated: list[str]
) -> None:
    ran(build_of(tmp_path, archive))
    assert ran(build_of(tmp_path, archive, **{setting: value})) == repeated


def test_same_bytes_from_another_place_are_verified_but_not_packed_again(
    tmp_path: Path, archive: Path
) -> None:
    ran(build_of(tmp_path, archive))
    elsewhere = tmp_path / "moved.zip"
    archive.rename(elsewhere)
    assert ran(build_of(tmp_path, elsewhere)) == ["download"]


def test_other_bytes_repeat_everything_and_make_a_new_version(
    tmp_path: Path, archive: Path
) -> None:
    ran(build_of(tmp_path, archive))
    changed = tiny_zip(archive.parent, {"train/n00000001/images/n00000001_3.JPEG": None})
    assert ran(build_of(tmp_path, changed)) == list(STAGES)
    assert len(versions(tmp_path)) == 2


def test_deleting_the_work_folder_repeats_the_tables_but_packs_nothing(
    tmp_path: Path, archive: Path
) -> None:
    build = build_of(tmp_path, archive)
    ran(build)
    before = files_below(versions(tmp_path)[0])
    build.storage.delete("work")
    run_stages(build)
    receipt = receipts_up_to(build, "pack")["pack"]
    assert receipt.base == f"datasets/tiny_imagenet/{versions(tmp_path)[0].name}"
    assert files_below(versions(tmp_path)[0]) == before


def test_published_file_that_was_changed_is_found_by_the_next_run(
    tmp_path: Path, archive: Path
) -> None:
    ran(build_of(tmp_path, archive))
    shard = versions(tmp_path)[0] / "recordio/train/train_00000.rec"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetDamaged, match=r"train_00000\.rec"):
        ran(build_of(tmp_path, archive))


def test_published_file_that_was_removed_is_named(tmp_path: Path, archive: Path) -> None:
    ran(build_of(tmp_path, archive))
    (versions(tmp_path)[0] / "classes.tsv").unlink()
    with pytest.raises(DatasetDamaged, match=r"classes\.tsv is damaged"):
        ran(build_of(tmp_path, archive))


@pytest.mark.parametrize("trouble", ["removed", "cut", "added"])
def test_loose_image_that_was_touched_is_found_by_the_next_run(
    tmp_path: Path, archive: Path, trouble: str
) -> None:
    ran(build_of(tmp_path, archive, formats=("imagefolder",)))
    assert ran(build_of(tmp_path, archive, formats=("imagefolder",))) == []
    image = next(versions(tmp_path)[0].rglob("n00000001_1.JPEG"))
    if trouble == "removed":
        image.unlink()
    elif trouble == "cut":
        image.write_bytes(image.read_bytes()[:-1])
    else:
        image.with_name("stray.JPEG").write_bytes(b"")
    name = "stray" if trouble == "added" else "n00000001_1"
    with pytest.raises(DatasetDamaged, match=rf"{name}\.JPEG"):
        ran(build_of(tmp_path, archive, formats=("imagefolder",)))


def test_version_name_taken_by_other_content_is_refused_before_packing(
    tmp_path: Path, archive: Path
) -> None:
    ran(build_of(tmp_path, archive, version="v1"))
    before = files_below(versions(tmp_path)[0])
    with pytest.raises(VersionConflict, match="'v1'"):
        ran(build_of(tmp_path, archive, version="v1", quality=10))
    assert files_below(versions(tmp_path)[0]) == before


def test_name_of_something_else_is_refused_before_packing(tmp_path: Path, archive: Path) -> None:
    build = build_of(tmp_path, archive, version="mine")
    notes = tmp_path / "data/datasets/tiny_imagenet/mine/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(VersionConflict, match="is no dataset version"):
        ran(build)
    assert list((tmp_path / "data/work/tiny_imagenet").glob("pack/*/tree")) == []
    assert notes.read_text() == "mine"


def test_smaller_quarantine_budget_is_asked_of_a_finished_build_too(
    tmp_path: Path, archive: Path
) -> None:
    bad = tiny_zip(
        archive.parent, {f"train/n00000001/images/n00000001_{n}.JPEG": b"" for n in (1, 2)}
    )
    ran(build_of(tmp_path, bad, max_bad=5))
    assert ran(build_of(tmp_path, bad, max_bad=2)) == []
    with pytest.raises(TooManyBadImages, match="at most 1 of 18, found 2"):
        ran(build_of(tmp_path, bad, max_bad=1))


def test_damaged_receipt_is_as_good_as_none(tmp_path: Path, archive: Path) -> None:
    ran(build_of(tmp_path, archive))
    (receipt,) = (tmp_path / "data/work/tiny_imagenet/untar").glob("*/receipt.json")
    receipt.write_bytes(b"")
    assert ran(build_of(tmp_path, archive)) == ["untar"]


def test_packed_file_that_is_damaged_before_it_is_verified_is_packed_anew(
    tmp_path: Path, archive: Path
) -> None:
    build = build_of(tmp_path, archive, formats=("imagefolder",))
    run_stages(build, "pack")
    victim = next((tmp_path / "data/work").rglob("n00000001_1.JPEG"))
    victim.unlink()
    with pytest.raises(DatasetDamaged, match=r"n00000001_1\.JPEG.*run again"):
        run_stages(build)
    assert ran(build) == ["pack", "verify", "report"]


def test_task_with_nothing_to_do_leaves_the_lock_to_the_rest_of_its_run(
    tmp_path: Path, archive: Path
) -> None:
    build = build_of(tmp_path, archive)
    with pytest.raises(NothingToDo), build.locked(hand_on=True):
        raise NothingToDo("not asked for")
    with pytest.raises(AlreadyRunning):
        acquire(build.storage, build.lock_key, Owner("another run"))


@pytest.mark.parametrize("trouble", [NoRegionError(), ValueError("Invalid endpoint: minio:9000")])
def test_aws_client_that_cannot_be_made_is_a_typed_error(
    tmp_path: Path, archive: Path, trouble: Exception
) -> None:
    def client(service: str) -> Any:
        raise trouble

    build = replace(build_of(tmp_path, archive), aws=client)
    with pytest.raises(CloudError, match=r"client|ec2"):
        build.client("ec2")


def test_stage_refuses_to_run_before_its_predecessor(tmp_path: Path, archive: Path) -> None:
    build = build_of(tmp_path, archive)
    with pytest.raises(StageNotDone, match="stage download"):
        run_stage(build, "untar")
    assert find_receipt(build, "verify") is None
    with pytest.raises(ConfigError, match="'unpack' is not a stage"):
        run_stage(build, "unpack")


def test_settings_of_a_run_are_resolved_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = Settings("tiny_imagenet", str(tmp_path), quality=70)
    assert freeze_settings(storage, "tiny_imagenet", "run", lambda: first) == first
    assert (
        freeze_settings(storage, "tiny_imagenet", "run", lambda: replace(first, quality=10))
        == first
    )
    assert frozen_settings(storage, "tiny_imagenet", "run") == first
    with pytest.raises(StageNotDone, match="no frozen settings"):
        frozen_settings(storage, "tiny_imagenet", "another run")


def test_lock_stays_parked_between_the_tasks_of_a_run(tmp_path: Path, archive: Path) -> None:
    build = build_of(tmp_path, archive)
    with build.locked(hand_on=True):
        pass
    (beat,) = (tmp_path / "data" / build.lock_key).glob("*.beat.json")
    assert f'"stale_after_s": {PARKED_FOR_S}' in beat.read_text()
    with build.locked():
        pass
    lease = acquire(build.storage, build.lock_key, Owner("another run"))
    assert lease.fence == 2


def test_run_whose_lock_was_taken_over_gives_nothing_a_final_name(
    tmp_path: Path, archive: Path
) -> None:
    build = build_of(tmp_path, archive, version="v1")
    run_stages(build, "pack")
    with pytest.raises(LeaseLost), build.locked() as owned:
        build.storage.create(f"{build.lock_key}/00000009.json", b"{}")
        run_stage(owned, "verify")
    assert not (tmp_path / "data/datasets").exists()


def test_failed_run_gives_its_lock_back(tmp_path: Path, archive: Path) -> None:
    build = build_of(tmp_path, archive)
    with pytest.raises(StageNotDone), build.locked(hand_on=True, will_retry=True):
        run_stage(build, "verify")
    assert acquire(build.storage, build.lock_key, Owner("another run")).fence == 2
