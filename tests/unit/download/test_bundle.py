"""A folder that is given for all archives: what it is, is found by looking, and nothing is lost."""

import logging
from pathlib import Path

import pytest
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL, ilsvrc_build

from imagenet_etl.download.sources import Sources, sources_of
from imagenet_etl.errors import ConfigError

BUNDLE = "ILSVRC2012"
KIT = "ILSVRC2012_devkit_t12"
INNER = ["ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"]


def found(folder: Path, **settings: object) -> Sources:
    more = settings.pop("sources", {})
    assert isinstance(more, dict)
    data = folder.parent / "data"
    return sources_of(ilsvrc_build(data, {BUNDLE: str(folder)} | more, **settings))


def places(sources: Sources) -> dict[str, str]:
    return {source.archive.name: source.place for source in sources.archives}


def holding(folder: Path, *names: str) -> Path:
    """Make a folder of empty files and, where a name ends in a slash, folders."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


@pytest.mark.parametrize("archive", [TRAIN, VAL])
@pytest.mark.parametrize(
    "tree", ["train/", "val/", "ILSVRC/", "Data/", "CLS-LOC/", "n01440764/",
             "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_img_val/"]
)  # fmt: skip
def test_a_tree_beside_archives_of_some_splits_is_not_passed_over_silently(
    tmp_path: Path, archive: str, tree: str
) -> None:
    folder = holding(tmp_path / "x", archive, tree)
    with pytest.raises(ConfigError) as caught:
        found(folder)
    message = str(caught.value)
    assert f"{folder} holds {archive} and an unpacked tree" in message
    assert f"found {tree.rstrip('/')} beside the archives" in message
    split = "train" if archive == TRAIN else "val"
    assert message.endswith(f"--source ARCHIVE=PLACE, or ask for the archives' images alone "
                            f"with --split {split}")  # fmt: skip


def test_beside_a_tree_archives_of_the_split_that_is_asked_for_are_used(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", TRAIN, "train/", "val/", DEVKIT)
    sources = found(folder, splits=("train",))
    assert places(sources) == {TRAIN: f"{folder}/{TRAIN}", DEVKIT: f"{folder}/{DEVKIT}"}
    assert sources.splits == ("train",)


def test_the_tree_is_used_for_a_split_that_no_archive_beside_it_holds(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", TRAIN, "train/", "val/", DEVKIT)
    sources = found(folder, splits=("val",))
    assert places(sources) == {BUNDLE: str(folder), DEVKIT: f"{folder}/{DEVKIT}"}
    assert sources.splits == ("val",)


def test_archives_of_all_splits_win_over_a_tree_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = holding(tmp_path / "x", TRAIN, VAL, DEVKIT, "train/", "val/")
    with caplog.at_level(logging.INFO):
        assert list(places(found(folder))) == [TRAIN, VAL, DEVKIT]
    assert f"folder {folder}: train, val beside the archives is not used" in caplog.text
    assert "left out" not in caplog.text


def test_a_split_that_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found(holding(tmp_path / "x", TRAIN))
    assert "left out: val" in caplog.text


@pytest.mark.parametrize(
    ("wrapper", "beside"),
    [("imagenet", ()), ("imagenet", ("README", "coco/images/")), ("data/imagenet", ()),
     ("data/imagenet", ("data/README", "data/coco/images/"))],
    ids=["one", "one of two", "two", "two, one of two"],
)  # fmt: skip
@pytest.mark.parametrize("inside", [TRAIN, "train/", "ILSVRC/"])
def test_folders_wrapped_around_everything_are_looked_into(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wrapper: str,
    beside: tuple[str, ...],
    inside: str,
) -> None:
    folder = holding(tmp_path / "x", f"{wrapper}/{inside}", *beside)
    inner = f"{folder}/{wrapper}"
    with caplog.at_level(logging.INFO):
        assert places(found(folder)) in ({BUNDLE: inner}, {TRAIN: f"{inner}/{TRAIN}"})
    assert f"folder {inner} is looked into in the place of {folder}" in caplog.text


@pytest.mark.parametrize(
    "names", [("a/b/c/train/",), ("a/train/", "b/train/"), ("a/c/train/", "b/"),
              ("a/b/",), ("a",), ()],
    ids=["too deep", "two", "two above", "nothing known", "a file", "empty"],
)  # fmt: skip
def test_other_folders_are_taken_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "x").mkdir()
    assert places(found(holding(tmp_path / "x", *names))) == {BUNDLE: f"{tmp_path}/x"}


@pytest.mark.parametrize("inner", INNER)
def test_the_labels_of_kaggles_folders_lie_further_up(tmp_path: Path, inner: str) -> None:
    holding(tmp_path / "x", f"{INNER[-1]}/val/", "LOC_val_solution.csv")
    assert places(found(tmp_path / "x" / inner)) == {BUNDLE: f"{tmp_path}/x"}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("why", ["no list", "training alone", "devkit given", "archives above"])
def test_nothing_is_sought_above_kaggles_folders_without_need(
    tmp_path: Path, inner: str, why: str
) -> None:
    holding(tmp_path / "x", f"{INNER[-1]}/val/")
    if why != "no list":
        holding(tmp_path / "x", "LOC_val_solution.csv")
    if why == "archives above":
        holding(tmp_path / "x", TRAIN)
    sources = found(
        tmp_path / "x" / inner,
        splits=("train",) if why == "training alone" else (),
        sources={DEVKIT: "/kit.tar.gz"} if why == "devkit given" else {},
    )
    assert places(sources)[BUNDLE] == f"{tmp_path}/x/{inner}"


def test_archives_may_be_links_to_files(tmp_path: Path) -> None:
    store, folder = holding(tmp_path / "store", "1", "2", "3"), holding(tmp_path / "x", "y/")
    for target, name in zip("123", (TRAIN, VAL, DEVKIT), strict=True):
        (folder / name).symlink_to(store / target)
    assert places(found(folder)) == {n: f"{folder}/{n}" for n in (TRAIN, VAL, DEVKIT)}


def test_a_link_that_leads_nowhere_is_no_archive(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", VAL)
    (folder / TRAIN).symlink_to(tmp_path / "nowhere")
    assert found(folder).splits == ("val",)


def test_an_unpacked_devkit_beside_the_archives_is_used(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", TRAIN, VAL, f"{KIT}/data/meta.mat")
    assert places(found(folder))[DEVKIT] == f"{folder}/{KIT}"


def test_a_packed_devkit_is_preferred_to_an_unpacked_one(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", TRAIN, VAL, f"{KIT}/data/meta.mat", DEVKIT)
    assert places(found(folder))[DEVKIT] == f"{folder}/{DEVKIT}"


def test_an_unpacked_devkit_in_a_tree_is_part_of_it(tmp_path: Path) -> None:
    folder = holding(tmp_path / "x", "train/", f"{KIT}/data/meta.mat", DEVKIT)
    assert places(found(folder)) == {BUNDLE: str(folder)}


def test_a_digest_is_demanded_of_the_folder_that_was_named(tmp_path: Path) -> None:
    holding(tmp_path / "x", "imagenet/train/")
    place = f"{tmp_path}/x#sha256={'0' * 64}"
    build = ilsvrc_build(tmp_path / "data", {BUNDLE: place})
    assert places(sources_of(build)) == {BUNDLE: place}


def test_a_digest_of_a_folder_of_archives_is_not_dropped_silently(tmp_path: Path) -> None:
    holding(tmp_path / "x", TRAIN, VAL)
    build = ilsvrc_build(tmp_path / "data", {BUNDLE: f"{tmp_path}/x#sha256={'0' * 64}"})
    with pytest.raises(ConfigError, match=r"digest is demanded of .*which holds archives"):
        sources_of(build)


@pytest.mark.parametrize("above", ["", "val/"])
def test_a_val_folder_by_class_needs_no_devkit(tmp_path: Path, above: str) -> None:
    image = f"{above}n01440764/ILSVRC2012_val_00000001.JPEG"
    given = str(holding(tmp_path / "v", image, f"{above}valprep.sh"))
    sources = sources_of(ilsvrc_build(tmp_path / "data", {VAL: given}))
    assert (places(sources), sources.splits) == ({VAL: given}, ("val",))


@pytest.mark.parametrize(
    "names",
    [("ILSVRC2012_val_00000001.JPEG",), ("n01440764/a", "ILSVRC2012_val_00000001.JPEG"), ("b/",)],
    ids=["flat", "half sorted", "neither"],
)
def test_any_other_val_folder_has_its_labels_fetched(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = holding(tmp_path / "v", *names)
    sources = sources_of(ilsvrc_build(tmp_path / "data", {VAL: str(folder)}))
    assert list(places(sources)) == [VAL, DEVKIT]


def test_the_devkits_order_of_labels_needs_the_devkit(tmp_path: Path) -> None:
    folder = holding(tmp_path / "v", "n01440764/ILSVRC2012_val_00000001.JPEG")
    build = ilsvrc_build(tmp_path / "data", {VAL: str(folder)}, label_order="devkit")
    assert list(places(sources_of(build))) == [VAL, DEVKIT]
