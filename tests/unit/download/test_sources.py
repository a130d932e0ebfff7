"""Which archives a run takes, found by looking."""

from argparse import ArgumentParser
from pathlib import Path

import pytest
from tests.support.ilsvrc import DEVKIT, TRAIN, VAL, ilsvrc_build

from imagenet_etl.cli_options import add_settings, settings_of
from imagenet_etl.download.sources import Sources, sources_of
from imagenet_etl.errors import ConfigError, SourceNotFound

BUNDLE = "ILSVRC2012"


def found(tmp_path: Path, sources: dict[str, str], **settings: object) -> Sources:
    return sources_of(ilsvrc_build(tmp_path / "data", sources, **settings))


def names(sources: Sources) -> list[str]:
    return [source.archive.name for source in sources.archives]


def files(folder: Path, *names: str) -> str:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return str(folder)


def test_without_sources_everything_comes_from_the_publisher(tmp_path: Path) -> None:
    sources = found(tmp_path, {})
    assert names(sources) == [TRAIN, VAL, DEVKIT]
    assert all(s.place.startswith("https://image-net.org/") for s in sources.archives)
    assert sources.splits == ("train", "val")


def test_the_training_archive_alone_leaves_val_out_and_asks_for_no_labels(tmp_path: Path) -> None:
    sources = found(tmp_path, {TRAIN: "/a.tar"})
    assert (names(sources), sources.splits) == ([TRAIN], ("train",))
    assert sources.left_out(ilsvrc_build(tmp_path, {})) == ("val",)


def test_the_validation_archive_alone_has_its_labels_fetched(tmp_path: Path) -> None:
    sources = found(tmp_path, {VAL: "/a.tar"})
    assert (names(sources), sources.splits) == ([VAL, DEVKIT], ("val",))


def test_a_split_alone_may_be_asked_of_the_publisher(tmp_path: Path) -> None:
    sources = found(tmp_path, {}, splits=("train",))
    assert (names(sources), sources.splits) == ([TRAIN, DEVKIT], ("train",))


def test_what_is_asked_for_and_not_given_is_fetched(tmp_path: Path) -> None:
    sources = found(tmp_path, {TRAIN: "/a.tar"}, splits=("train", "val"))
    assert names(sources) == [TRAIN, VAL, DEVKIT]


def test_a_folder_of_the_archives_stands_for_them(tmp_path: Path) -> None:
    folder = files(tmp_path / "archives", TRAIN, VAL, DEVKIT)
    sources = found(tmp_path, {BUNDLE: folder})
    assert [s.place for s in sources.archives] == [f"{folder}/{n}" for n in (TRAIN, VAL, DEVKIT)]
    assert sources.splits == ("train", "val")


def test_a_folder_with_one_archive_gives_one_split(tmp_path: Path) -> None:
    sources = found(tmp_path, {BUNDLE: files(tmp_path / "archives", TRAIN)})
    assert (names(sources), sources.splits) == ([TRAIN], ("train",))


def test_any_other_folder_is_a_tree_beside_which_a_devkit_may_lie(tmp_path: Path) -> None:
    (tmp_path / "tree/train").mkdir(parents=True)
    sources = found(tmp_path, {BUNDLE: files(tmp_path / "tree", DEVKIT)})
    assert names(sources) == [DEVKIT, BUNDLE]
    assert sources.splits == ("train", "val")


def test_the_devkit_may_be_given_beside_a_tree(tmp_path: Path) -> None:
    sources = found(tmp_path, {BUNDLE: files(tmp_path / "tree"), DEVKIT: "/kit.tar.gz"})
    assert [s.place for s in sources.archives] == ["/kit.tar.gz", str(tmp_path / "tree")]


def test_a_file_or_url_of_another_name_holds_everything(tmp_path: Path) -> None:
    assert names(found(tmp_path, {BUNDLE: "https://mirror.example/kaggle.zip"})) == [BUNDLE]


def test_a_bundle_and_an_archive_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="archives of their own") as caught:
        found(tmp_path, {BUNDLE: "https://u:canary@mirror.example/k.zip", TRAIN: "/a.tar"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("item", ["", " ", f"{VAL}=", f"{VAL}= "])
def test_an_empty_source_is_not_the_current_folder(tmp_path: Path, item: str) -> None:
    parser = ArgumentParser()
    add_settings(parser)
    args = parser.parse_args(["ilsvrc2012", "--data-dir", str(tmp_path), "--source", item])
    with pytest.raises(ConfigError, match=r"gives no place: expected \[ARCHIVE=\]PATH_OR_URL"):
        settings_of(args)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="/no/such does not exist"):
        found(tmp_path, {BUNDLE: "/no/such"})


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no split test: expected train or val"):
        found(tmp_path, {}, splits=("test",))


def test_every_source_has_one_task_that_sees_to_it(tmp_path: Path) -> None:
    official = found(tmp_path, {})
    assert [official.of(n).archive.name for n in (TRAIN, VAL, DEVKIT)] == [TRAIN, VAL, DEVKIT]
    tree = found(tmp_path, {BUNDLE: files(tmp_path / "tree", DEVKIT)})
    seen = [tree.of(n) for n in (TRAIN, VAL, DEVKIT)]
    assert [s.archive.name if s else None for s in seen] == [BUNDLE, None, DEVKIT]


def test_secrets_of_a_place_are_in_no_representation(tmp_path: Path) -> None:
    assert "canary" not in repr(found(tmp_path, {TRAIN: "https://u:canary@mirror.example/a.tar"}))
