"""Dirty data in full ImageNet: what is left out is counted, listed by class, and never silent."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from tests.support.archives import HTML
from tests.support.full import full_build

from imagenet_etl.errors import BadArchive, TooManyBadImages, UnexpectedMember
from imagenet_etl.pipeline import run_stage
from imagenet_etl.samples import build_imagenet_full
from imagenet_etl.verify import verify_folder

SIZES = {f"n0000000{number}": 12 for number in range(1, 6)}
FIRST, SECOND, THIRD, FOURTH, FIFTH = SIZES


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "tars"
    build_imagenet_full(folder, None, SIZES, layout="class-tars")
    return folder


def images_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def write_tar(path: Path, images: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in images:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))


def spoil(path: Path, *contents: bytes) -> list[str]:
    """Put contents in the place of a class's first images; return their names."""
    images = images_of(path)
    names = list(images)[: len(contents)]
    images |= dict(zip(names, contents, strict=True))
    write_tar(path, list(images.items()))
    return names


def prepared(tmp_path: Path, tars: Path, **settings: object) -> tuple[Path, dict, str]:
    build = full_build(tmp_path / "data", tars, val_images_per_class=3, **settings)
    for name in build.facts.stages:
        receipt = run_stage(build, name).receipt
        if name == "verify":
            version = Path(receipt.facts["path"])
    return version, json.loads((version / "manifest.json").read_text()), receipt.facts["text"]


def test_bad_images_are_quarantined_and_listed_by_class(tmp_path: Path, tars: Path) -> None:
    cut = next(iter(images_of(tars / f"{FIRST}.tar").values()))[:-300]
    bad = spoil(tars / f"{FIRST}.tar", b"", HTML, cut) + spoil(tars / f"{FOURTH}.tar", HTML)
    version, manifest, text = prepared(tmp_path, tars, max_bad=4)
    counts = manifest["counts"]
    assert (counts["expected"], counts["packed"], counts["quarantined"]) == (60, 56, 4)
    assert {Path(item["path"]).name for item in manifest["quarantined"]} == set(bad)
    lines = {line.split()[0]: line.split()[1] for line in text.splitlines() if line}
    assert (lines[FIRST], lines[FOURTH]) == ("3", "1")
    assert verify_folder(version)["records"] == 56


def test_the_manifest_shows_planned_and_packed_where_quarantine_took_some(
    tmp_path: Path, tars: Path
) -> None:
    spoil(tars / f"{SECOND}.tar", *[HTML] * 12)
    spoil(tars / f"{THIRD}.tar", b"")
    _, manifest, _ = prepared(tmp_path, tars, max_bad=13)
    short = manifest["short_classes"]
    assert short["val"][SECOND] == {"planned": 3, "packed": 0}
    assert short["train"][SECOND] == {"planned": 9, "packed": 0}
    lost = [counts for split in short.values() for wnid, counts in split.items() if wnid == THIRD]
    assert sum(counts["planned"] - counts["packed"] for counts in lost) == 1
    assert all(FIRST not in split for split in short.values())
    assert manifest["counts"]["val_planned"] == 15
    assert manifest["counts"]["val_packed"] == 12 - (THIRD in short["val"])


def test_beyond_the_budget_nothing_is_published(tmp_path: Path, tars: Path) -> None:
    spoil(tars / f"{FIRST}.tar", b"", HTML)
    with pytest.raises(TooManyBadImages, match="at most 1 of 60"):
        prepared(tmp_path, tars)
    assert not (tmp_path / "data/datasets").exists()


def test_one_name_in_two_classes_is_two_images(tmp_path: Path, tars: Path) -> None:
    images = list(images_of(tars / f"{FIRST}.tar").items())
    others = list(images_of(tars / f"{SECOND}.tar").items())
    write_tar(tars / f"{SECOND}.tar", [*others, (images[0][0], others[0][1])])
    version, manifest, _ = prepared(tmp_path, tars)
    assert manifest["counts"]["packed"] == 61
    lines = [line for path in version.rglob("*.lst") for line in path.read_text().splitlines()]
    paths = sorted(line.split("\t")[2] for line in lines)
    assert [path for path in paths if path.endswith(images[0][0])] == [
        f"{FIRST}/{images[0][0]}",
        f"{SECOND}/{images[0][0]}",
    ]


def test_one_name_twice_in_a_class_is_refused(tmp_path: Path, tars: Path) -> None:
    images = list(images_of(tars / f"{FIRST}.tar").items())
    write_tar(tars / f"{FIRST}.tar", [*images, images[0]])
    with pytest.raises(UnexpectedMember, match="appears twice"):
        prepared(tmp_path, tars, max_bad_classes=5)


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_bad_class_tar_is_refused_or_within_the_budget_left_out_and_listed(
    tmp_path: Path, tars: Path, damage: str
) -> None:
    path = tars / f"{THIRD}.tar"
    path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:5000])
    with pytest.raises(BadArchive, match=THIRD):
        prepared(tmp_path, tars)
    version, manifest, text = prepared(tmp_path, tars, max_bad_classes=1)
    assert [item["wnid"] for item in manifest["bad_classes"]] == [THIRD]
    assert manifest["counts"]["packed"] == 48
    assert "Class tars that could not be read: 1." in manifest["notes"]
    assert any(line.split()[:1] == [THIRD] for line in text.splitlines())
    assert THIRD not in (version / "classes.tsv").read_text()
