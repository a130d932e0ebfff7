"""What is said of members that do not belong to a dataset."""

import tarfile
from pathlib import Path

import pytest
from tests.support.archives import listed

from imagenet_etl.datasets import ILSVRC2012
from imagenet_etl.errors import UnexpectedMember

IMAGE = "n01440764/n01440764_1.JPEG"
FLAT = "ILSVRC2012_val_00000001.JPEG"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def refusal(archive: Path) -> str:
    with pytest.raises(UnexpectedMember) as caught:
        listed(archive, ILSVRC2012)
    return str(caught.value)


def test_of_a_folder_no_byte_is_named(tmp_path: Path) -> None:
    message = refusal(tree(tmp_path / "x", f"train/{IMAGE}", "a/odd.txt"))
    assert message == (
        "x: member a/odd.txt does not belong to ILSVRC2012. "
        "Is it the right archive? Remove strange files from one of your own"
    )


@pytest.mark.parametrize("wrapper", ["imagenet", "a/b", "a/b/c"])
@pytest.mark.parametrize(
    "inside", [f"train/{IMAGE}", f"val/{FLAT}", f"ILSVRC/Data/CLS-LOC/val/{FLAT}"]
)
def test_a_folder_around_the_dataset_is_named(tmp_path: Path, wrapper: str, inside: str) -> None:
    message = refusal(tree(tmp_path / "x", f"{wrapper}/{inside}", f"{wrapper}/AUTHORS"))
    assert message.endswith(
        f"If {wrapper} is the dataset, give that subfolder; else move it elsewhere"
    )


def test_a_folder_around_the_dataset_in_a_tar_has_to_be_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tree(tmp_path / "x", f"imagenet/train/{IMAGE}"), ".")
    message = refusal(tmp_path / "x.tar")
    assert "found its header at byte" in message
    assert message.endswith("If imagenet is the dataset, unpack the archive and give that folder")


@pytest.mark.parametrize("above", ["train", "a/b"])
def test_the_folder_below_that_holds_the_class_tars_is_named(tmp_path: Path, above: str) -> None:
    message = refusal(tree(tmp_path / "x", f"{above}/n01440764.tar", f"{above}/n01443537.tar"))
    assert message.startswith(f"x: {above}/n01440764.tar is a tar that is not looked into here")
    assert message.endswith(f"If {above} holds the class tars, give that folder itself")


@pytest.mark.parametrize("root", ["", "CLS-LOC/", "Data/CLS-LOC/", "ILSVRC/Data/CLS-LOC/"])
def test_kaggles_tree_is_accepted_from_any_of_its_folders(tmp_path: Path, root: str) -> None:
    names = [f"{root}train/{IMAGE}", f"{root}val/{FLAT}", f"{root}test/ILSVRC2012_test_1.JPEG"]
    assert [m.name for m in listed(tree(tmp_path / "x", *names), ILSVRC2012)] == names[:2]
