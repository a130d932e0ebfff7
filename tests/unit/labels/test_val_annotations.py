import pytest
from tests.support.archives import ARCHIVE, ROOT, build_of, run_stages, tiny_members, tiny_zip

from imagenet_etl.errors import BadArchive, LabelError
from imagenet_etl.labels.val_annotations import parse_annotations, parse_words
from imagenet_etl.tables import read_table

ANNOTATIONS = "val/val_annotations.txt"


@pytest.fixture
def text(tmp_path):
    """The content of a side file of the untouched sample."""
    members = tiny_members(tmp_path)
    return lambda name: members[f"{ROOT}/{name}"].decode()


def restructured(folder, changes):
    folder.mkdir(exist_ok=True)
    build = build_of(folder, tiny_zip(folder, changes))
    receipt = run_stages(build, "restructure_val")["restructure_val"]
    return receipt, read_table(build.storage, receipt.key_of("images.parquet"))


def refusal(tmp_path, changes):
    """Return the one-line message with which these changes of the archive are refused."""
    with pytest.raises(LabelError) as caught:
        restructured(tmp_path, changes)
    message = str(caught.value)
    assert message.isprintable(), "an error is one line of the log"
    assert caught.value.remedy
    return message


def test_every_validation_image_gets_the_class_of_its_line(tmp_path, text):
    receipt, table = restructured(tmp_path, {})
    lines = [line.split("\t") for line in text(ANNOTATIONS).splitlines()]
    expected = {name: wnid for name, wnid, *_ in lines}
    rows = table.to_pylist()
    assert {r["file_name"]: r["wnid"] for r in rows if r["split"] == "val"} == expected
    assert all(r["wnid"] == r["file_name"][:9] for r in rows if r["split"] == "train")
    assert {r["wnid"] for r in rows if r["split"] == "test"} == {None}
    assert receipt.counts == {"val_labels": 6}


def test_labels_are_numbered_by_sorted_class_whatever_the_order_of_the_list(tmp_path, text):
    assert text("wnids.txt").split() == ["n00000003", "n00000002", "n00000001"]
    receipt, _ = restructured(tmp_path, {"words.txt": b"n00000002\tcat, true cat\nn9\tx\n"})
    assert [(entry["wnid"], entry["names"]) for entry in receipt.facts["classes"]] == [
        ("n00000001", ""), ("n00000002", "cat, true cat"), ("n00000003", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", ANNOTATIONS])
def test_line_ends_of_windows_change_nothing(tmp_path, text, name):
    plain, table = restructured(tmp_path / "plain", {})
    crlf = text(name).replace("\n", "\r\n").encode()
    changed, other = restructured(tmp_path / "crlf", {name: crlf})
    columns = ["split", "wnid", "file_name"]
    assert other.select(columns).equals(table.select(columns))
    assert changed.facts == plain.facts


def test_blank_lines_and_a_missing_last_line_end_change_nothing(tmp_path, text):
    _, table = restructured(tmp_path / "plain", {})
    loose = ("\n" + text(ANNOTATIONS).replace("\n", "\n\n")).rstrip("\n").encode()
    _, other = restructured(tmp_path / "loose", {ANNOTATIONS: loose})
    assert other["wnid"].equals(table["wnid"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_without_boxes_are_enough(end):
    text = f"val_0.JPEG\tn00000001{end}val_1.JPEG\tn00000002{end}"
    wnids = {"n00000001", "n00000002"}
    assert parse_annotations(text, wnids) == {"val_0.JPEG": "n00000001", "val_1.JPEG": "n00000002"}


def test_words_without_a_tab_are_passed_over():
    assert parse_words("n00000001\ta\tb\nno tab\n\r\n") == {"n00000001": "a\tb"}


def test_an_image_without_a_line_is_named(tmp_path, text):
    lines = text(ANNOTATIONS).splitlines(keepends=True)
    message = refusal(tmp_path, {ANNOTATIONS: "".join(lines[:2] + lines[3:]).encode()})
    assert f"{ANNOTATIONS} has no line for 1 validation images: expected 6 lines" in message
    assert "the first image without one is val_2.JPEG" in message


def test_a_line_without_an_image_is_named(tmp_path, text):
    extra = text(ANNOTATIONS) + "val_77.JPEG\tn00000001\t0\t0\t1\t1\n"
    message = refusal(tmp_path, {ANNOTATIONS: extra.encode()})
    assert f"{ANNOTATIONS} names val_77.JPEG, which is not in the archive" in message


def test_an_image_that_is_missing_from_the_archive_is_named(tmp_path):
    message = refusal(tmp_path, {"val/images/val_3.JPEG": None})
    assert "names val_3.JPEG, which is not in the archive" in message


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("val_0.JPEG\tn00000001\t0\t0\t1\t1", "a file twice"),
        ("val_6.JPEG\tn99999999\t0\t0\t1\t1", "an unknown class"),
        ("val_6.JPEG n00000001", "no tab"),
        ("val_6.JPEG\t", "no class"),
        ("\x1b[31mforged\tn00000009", "control characters"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, text, line, why):
    message = refusal(tmp_path, {ANNOTATIONS: (text(ANNOTATIONS) + line + "\n").encode()})
    assert f"{ANNOTATIONS} line 7: expected a new file name and a wnid of wnids.txt" in message


@pytest.mark.parametrize(
    "line", ["n00000001", "n1", "dog", "n00000001 n00000002", "\ufeffn00000004"]
)
def test_a_bad_line_of_wnids_is_named_by_its_number(tmp_path, text, line):
    message = refusal(tmp_path, {"wnids.txt": (text("wnids.txt") + line + "\n").encode()})
    assert "wnids.txt line 4: expected a new wnid" in message


def test_a_class_folder_that_is_not_listed_is_named(tmp_path, text):
    message = refusal(tmp_path, {"wnids.txt": text("wnids.txt").replace("n00000002\n", "").encode(),
                                 ANNOTATIONS: b""})  # fmt: skip
    assert "class folder n00000002 is not in wnids.txt" in message


def test_a_listed_class_without_images_is_named(tmp_path, text):
    message = refusal(tmp_path, {"wnids.txt": (text("wnids.txt") + "n00000004\n").encode()})
    assert "class n00000004 of wnids.txt has no training images" in message


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", ANNOTATIONS])
def test_a_missing_side_file_is_named(tmp_path, name):
    assert f"{name} is missing from Tiny ImageNet's archive" in refusal(tmp_path, {name: None})


def test_a_damaged_side_file_is_named(tmp_path, text):
    import zipfile

    from tests.support.archives import write_zip

    path = write_zip(tmp_path / ARCHIVE, tiny_members(tmp_path), zipfile.ZIP_STORED)
    content = text(ANNOTATIONS).encode()
    path.write_bytes(path.read_bytes().replace(content, content.replace(b"val_0", b"val_1", 1)))
    with pytest.raises(
        BadArchive, match=f"{ARCHIVE}: {ROOT}/{ANNOTATIONS}: content does not match"
    ):
        run_stages(build_of(tmp_path, path), "restructure_val")
