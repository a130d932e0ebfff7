"""The devkit's classes and ground truth; what is hostile is refused and harms nobody."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from imagenet_etl.errors import LabelError
from imagenet_etl.labels.devkit import GROUND_TRUTH, META, Synset, parse_ground_truth, parse_meta
from imagenet_etl.samples.devkit import meta_mat

SYNSETS = [
    Synset(1, "n02119789", "kit fox, Vulpes macrotis"),
    Synset(2, "n02510455", "giant panda, panda, panda bear, coon bear, Ailuropoda melanoleuca"),
    Synset(3, "n01440764", "tench, crêpe"),
]
FIELDS = ("ILSVRC2012_ID", "WNID", "words", "num_children")
LINES = st.text(st.characters(max_codepoint=0xFFFF, categories=["L", "N", "P"]), min_size=1)


def mat(rows, fields=FIELDS, name="synsets", compress=False):
    """Return a MAT file with one struct a row."""
    structs = np.zeros((len(rows), 1), [(field, object) for field in fields])
    for number, row in enumerate(rows):
        structs[number, 0] = tuple(row)
    return saved({name: structs}, compress)


def saved(content, compress=False):
    out = io.BytesIO()
    savemat(out, content, do_compression=compress)
    return out.getvalue()


def rows(count=3):
    return [[n, f"n0000000{n}", f"name {n}", 0] for n in range(1, count + 1)]


def refusal(data):
    with pytest.raises(LabelError) as caught:
        parse_meta(data)
    message = str(caught.value)
    assert message.startswith(f"{META}: ")
    assert message.isprintable(), "an error is one line of the log"
    assert caught.value.remedy
    return message


def test_classes_come_in_the_order_of_their_ids_without_the_synsets_above_them():
    assert parse_meta(meta_mat(SYNSETS, 1300)) == SYNSETS
    data = mat([[4, "n00000009", "entity", 3], *reversed(rows())])
    assert [synset.id for synset in parse_meta(data)] == [1, 2, 3]


@given(st.lists(LINES, min_size=1, max_size=20))
def test_whatever_the_names_what_the_sample_builder_wrote_is_read(names):
    synsets = [Synset(at, f"n{at:08d}", name) for at, name in enumerate(names, 1)]
    assert parse_meta(meta_mat(synsets, 5)) == synsets


def test_nothing_but_the_tests_needs_scipy():
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['numpy'] = None;"
        "from imagenet_etl.labels.devkit import Synset, parse_meta;"
        "from imagenet_etl.samples.devkit import meta_mat;"
        "assert parse_meta(meta_mat([Synset(1, 'n00000001', 'a')], 1))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_single_class_is_read():
    assert parse_meta(mat(rows(1))) == [Synset(1, "n00000001", "name 1")]


def test_numbers_may_be_doubles_as_matlab_has_them():
    data = mat([[1.0, "n00000001", "a", 0.0], [2.0, "n00000002", "b", 2.0]])
    assert parse_meta(data) == [Synset(1, "n00000001", "a")]


@pytest.mark.parametrize(
    "data", [b"", b"no MAT file at all" * 40, b"\x89HDF\r\n\x1a\n" + bytes(600)]
)
def test_what_is_no_mat_file_is_refused(data):
    assert "content: expected a MAT file with synsets" in refusal(data)


@pytest.mark.parametrize("kept", [0.1, 0.99])
@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_file_is_refused(kept, compress):
    data = mat(rows(), compress=compress)
    refusal(data[: int(len(data) * kept)])


@pytest.mark.parametrize("at", range(6))
def test_a_flipped_byte_is_refused_or_harmless(at):
    data = bytearray(mat(rows(1)))
    spot = 128 + at * (len(data) - 128) // 6
    data[spot] ^= 0xFF
    try:
        assert len(parse_meta(bytes(data))) == 1
    except LabelError as error:
        assert str(error).startswith(META)


@pytest.mark.parametrize("spot", [273, 441, 505])
def test_a_file_that_crashes_scipy_is_refused(spot):
    data = bytearray(mat(rows()))
    data[spot] = 14  # the type of an array inside another: SciPy 1.17.1 ends with signal 11
    refusal(bytes(data))


@pytest.mark.parametrize("content", [
    {"other": np.zeros(3)},
    {"synsets": np.zeros(3)},
    {"synsets": "text"},
    {"synsets": np.array([1, "a"], dtype=object)},
    {"synsets": np.zeros((0, 1), [(field, object) for field in FIELDS])},
])  # fmt: skip
def test_synsets_of_another_shape_are_refused(content):
    refusal(saved(content))


@pytest.mark.parametrize("missing", FIELDS)
def test_a_missing_field_is_named(missing):
    kept = [field for field in FIELDS if field != missing]
    data = mat([[row[FIELDS.index(field)] for field in kept] for row in rows()], kept)
    assert f"synsets: expected structs with {', '.join(FIELDS)}" in refusal(data)


@pytest.mark.parametrize(("column", "value", "message"), [
    (0, 3, "id of a class: expected each of 1 to 3 once, found 3"),
    (0, 0, "id of a class: expected each of 1 to 3 once, found 0"),
    (0, -1, "id of a class"),
    (0, 2.5, "id of synset 2: expected a whole number, found 2.5"),
    (0, np.nan, "id of synset 2: expected a whole number"),
    (0, np.inf, "id of synset 2: expected a whole number"),
    (0, "2", "id of synset 2: expected a whole number"),
    (0, np.zeros((2, 2)), "id of synset 2: expected a whole number"),
    (0, 2j, "id of synset 2: expected a whole number"),
    (1, "n00000001", "class 2: expected a wnid of its own, found n00000001"),
    (1, "dog", "WNID of synset 2: expected a wnid, found 'dog'"),
    (1, "n00000002\n", "WNID of synset 2: expected a line of text"),
    (1, 7, "WNID of synset 2: expected a line of text"),
    (1, np.array(["n00000002", "n00000003"], dtype=object), "WNID of synset 2"),
    (2, "", "words of synset 2: expected a line of text"),
    (2, "a\tb", "words of synset 2: expected a line of text"),
    (2, {"a": 1}, "words of synset 2: expected a line of text"),
    (3, "none", "num_children of synset 2: expected a whole number"),
    (3, np.zeros(0), "num_children of synset 2: expected a whole number"),
])  # fmt: skip
def test_a_bad_value_is_named(column, value, message):
    changed = rows()
    changed[1][column] = value
    assert message in refusal(mat(changed))


def test_classes_without_a_leaf_are_refused():
    assert "synsets: expected some without children" in refusal(mat([[1, "n00000001", "a", 1]]))


def test_more_synsets_than_wordnet_has_are_refused_before_they_are_made():
    data = bytearray(mat(rows()))
    at = data.index((3).to_bytes(4, "little") + (1).to_bytes(4, "little"))
    data[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    assert "2147483647 synsets" in refusal(bytes(data))


@pytest.mark.parametrize("text", ["3\n1\n2\n", "3\n1\n2", "3\r\n1\r\n2\r\n"])
def test_line_n_is_the_class_of_image_n_by_id(text):
    assert parse_ground_truth(text, SYNSETS) == ["n01440764", "n02119789", "n02510455"]


@pytest.mark.parametrize(
    ("line", "found"),
    [("0", "'0'"), ("4", "'4'"), ("-1", "'-1'"), ("", "''"), ("1 ", "'1 '"), ("1.0", "'1.0'"),
     ("n02119789", "'n02119789'"), ("1" * 5000, "'1111"), ("²", "'²'"), ("٣", "'٣'"),
     ("\x1b[31m", r"'\x1b[31m'")],
)  # fmt: skip
def test_a_bad_line_is_named_with_what_it_holds(line, found):
    with pytest.raises(LabelError) as caught:
        parse_ground_truth(f"1\n{line}\n2\n", SYNSETS)
    message = str(caught.value)
    assert f"{GROUND_TRUTH} line 2: expected a number from 1 to 3, found {found}" in message
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "\n", "1\n\n", "\n1\n"])
def test_an_empty_line_is_refused(text):
    with pytest.raises(LabelError, match="expected a number from 1 to 3, found ''"):
        parse_ground_truth(text, SYNSETS)
