"""Structs of a MAT-file, held against SciPy, against MATLAB's own files and against damage."""

import io
import math
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io.matlab
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from imagenet_etl.labels.mat import MAX_BYTES, MAX_STRUCTS, MatError, read_structs
from imagenet_etl.samples.mat import write_structs

FIELDS = ("id", "name")
ROWS = [[1.0, "kit fox"], [2.0, "crêpe, 熊猫"], [3.0, "tench"]]
READ = [dict(zip(FIELDS, row, strict=True)) for row in ROWS]
MATLAB = Path(scipy.io.matlab.__file__).parent / "tests/data"
"""What MATLAB 6 and 7 wrote themselves; SciPy brings it for its own tests."""
LETTERS = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"])


def saved(rows, compress=True, fields=FIELDS, name="synsets"):
    """Return what SciPy makes of one struct a row."""
    structs = np.zeros((len(rows), 1), [(field, object) for field in fields])
    for number, row in enumerate(rows):
        structs[number, 0] = tuple(row)
    out = io.BytesIO()
    savemat(out, {name: structs}, do_compression=compress)
    return out.getvalue()


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def small(kind, data, order="<"):
    return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")


def array(kind, shape, content=b"", name=b"", order="<"):
    head = element(6, struct.pack(f"{order}II", kind, 0), order)
    head += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, head + element(1, name, order) + content, order)


def structs(*values, shape=None, order="<"):
    """Return a variable ``synsets`` with the field ``a``."""
    names = small(5, struct.pack(f"{order}i", 2), order) + small(1, b"a\0", order)
    shape = shape or (len(values), 1)
    return array(2, shape, names + b"".join(values), b"synsets", order)


def compressed(data, tail=b""):
    packed = zlib.compress(data) + tail
    return struct.pack("<II", 15, len(packed)) + packed


def file(*variables, order="<"):
    mark = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    return b"by hand".ljust(124) + mark + b"".join(variables)


def value_of(content):
    (row,) = read_structs(file(structs(content)), "synsets", ["a"])
    return row["a"]


def refusal(data, fields=("a",)):
    with pytest.raises(MatError) as caught:
        read_structs(data, "synsets", fields)
    return str(caught.value)


@pytest.mark.parametrize("compress", [False, True])
def test_what_scipy_wrote_is_read(compress):
    assert read_structs(saved(ROWS, compress), "synsets", FIELDS) == READ


@pytest.mark.parametrize("compress", [False, True])
def test_fields_that_were_not_asked_for_are_skipped_whatever_they_hold(compress):
    nested = {"a": {"b": np.array([1, "x"], dtype=object)}, "c": np.zeros((2, 0))}
    odd = [nested, np.array([{"d": 1}, "y"], dtype=object), 2j, np.eye(3), "", True]
    rows = [[ROWS[0][0], thing, ROWS[0][1]] for thing in odd]
    data = saved(rows, compress, ("id", "odd", "name"))
    assert read_structs(data, "synsets", FIELDS) == [READ[0]] * len(odd)


@pytest.mark.parametrize("release", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_what_matlab_wrote_is_read(release):
    path = MATLAB / f"teststructarr_{release}.mat"
    if not path.exists():
        pytest.skip("this SciPy came without MATLAB's files")
    rows = read_structs(path.read_bytes(), "teststructarr", ("one", "two"))
    assert rows == [{"one": 1, "two": 2}, {"one": "number 1", "two": "number 2"}]


@pytest.mark.parametrize("name", ["bad_miuint32", "corrupted_zlib_checksum", "malformed1"])
def test_damaged_files_of_scipys_collection_are_refused(name):
    path = MATLAB / f"{name}.mat"
    if not path.exists():
        pytest.skip("this SciPy came without MATLAB's files")
    refusal(path.read_bytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order):
    number = array(6, (1, 1), element(9, struct.pack(f"{order}d", 2.5), order), order=order)
    narrow = array(6, (1, 1), small(4, struct.pack(f"{order}H", 513), order), order=order)
    codec = "utf-16-le" if order == "<" else "utf-16-be"
    text = array(4, (1, 5), element(4, "crêpe".encode(codec), order), order=order)
    data = file(structs(number, narrow, text, order=order), order=order)
    assert [row["a"] for row in read_structs(data, "synsets", ["a"])] == [2.5, 513, "crêpe"]
    loaded = loadmat(io.BytesIO(data), squeeze_me=True, uint16_codec=codec)
    assert loaded["synsets"]["a"].tolist() == [2.5, 513, "crêpe"]


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"]
)
def test_numbers_of_every_class_are_read(kind):
    assert read_structs(saved([[np.array(101, kind), "a"]]), "synsets", ["id"]) == [{"id": 101}]


@pytest.mark.parametrize(("kind", "codec"), [
    (1, "ascii"), (2, "ascii"), (4, "utf-16-le"), (16, "utf-8"), (17, "utf-16-le"),
    (18, "utf-32-le"),
])  # fmt: skip
def test_text_of_every_storage_is_read(kind, codec):
    text = "giant panda" if codec == "ascii" else "crêpe 熊猫"
    assert value_of(array(4, (1, len(text)), element(kind, text.encode(codec)))) == text


@pytest.mark.parametrize("length", [1, 2])
def test_a_character_beyond_the_first_65536_counts_once_or_twice(length):
    assert value_of(array(4, (1, length), element(16, "🦊".encode()))) == "🦊"


@pytest.mark.parametrize("content", [
    element(14, b""),
    array(6, (0, 0), element(9, b"")),
    array(6, (1, 2), element(2, b"ab")),
    array(6 | 0x800, (1, 1), small(2, b"a") + small(2, b"b")),
    array(4, (2, 1), small(2, b"ab")),
    array(4, (1, 1, 2), small(2, b"ab")),
    array(1, (1, 1), array(6, (1, 1), small(2, b"a"))),
    array(5, (1, 1)),
    element(14, element(6, bytes([17]).ljust(8, b"\0")) + element(1, b"of a later release")),
])  # fmt: skip
def test_what_is_neither_a_number_nor_a_line_is_none(content):
    assert value_of(content) is None


def test_an_empty_text_is_read():
    assert value_of(array(4, (0, 0), element(16, b""))) == ""


def test_fields_that_the_structs_lack_are_left_out():
    assert read_structs(saved(ROWS[:1]), "synsets", ("id", "other")) == [{"id": 1}]


def test_a_matrix_of_structs_is_read_in_matlabs_order():
    values = [array(6, (1, 1), small(2, bytes([n]))) for n in range(6)]
    data = file(structs(*values, shape=(2, 3)))
    assert [row["a"] for row in read_structs(data, "synsets", ["a"])] == list(range(6))
    assert loadmat(io.BytesIO(data))["synsets"]["a"].T.ravel().tolist() == list(range(6))


def test_other_variables_are_passed_over():
    value = array(6, (1, 1), small(2, b"a"))
    before = array(6, (1, 1), small(2, b"a"), b"other")
    data = file(before, compressed(before), element(14, b""), structs(value))
    assert read_structs(data, "synsets", ["a"]) == [{"a": 97}]


@pytest.mark.parametrize(("data", "message"), [
    (b"", "no header of level 5"),
    (file(order="<")[:-1], "no header of level 5"),
    (file(), "no synsets"),
    (file(array(6, (1, 1), name=b"synsets")), "synsets of class 6"),
    (file(structs()), "0 synsets"),
    (file(structs(shape=(MAX_STRUCTS + 1, 1))), f"{MAX_STRUCTS + 1} synsets"),
    (file(structs(shape=(2**31 - 1,) * 32)), "synsets"),
    (file(structs(shape=(1,) * 33)), "132 bytes in place of a few integers"),
    (file(structs(shape=(-1, -1))), "an array of shape (-1, -1)"),
    (file(structs(shape=(1,))), "an array of shape (1,)"),
    (file(structs(shape=(2, 1))), "an element that is cut off"),
    (file(structs(*[element(14, b"")] * 2, shape=(1, 1))), "8 bytes too many"),
    (file(structs(element(9, b""))), "an element of type 9 in place of 14"),
    (file(element(9, b"")), "an element of type 9 in place of 14 or 15"),
    (file(structs(struct.pack("<II", 14, 2**32 - 1))), "4294967295 bytes where 0 are left"),
    (file(structs(struct.pack("<II", 5 << 16 | 14, 0))), "a small element of 5 bytes"),
    (file(structs(array(6, (1, 1), small(9, b"abcd")))), "a number of 4 bytes"),
    (file(structs(array(6, (1, 1), element(9, b"")))), "a number of 0 bytes"),
    (file(structs(array(6, (1, 1), small(2, b"a") * 2))), "8 bytes too many"),
    (file(structs(array(4, (1, 1), small(2, b"a") * 2))), "8 bytes too many"),
    (file(structs(array(4, (1, 1), small(2, b"\xe9")))), "text that is not in ascii"),
    (file(structs(array(4, (1, 1), small(16, b"\xff")))), "text that is not in utf-8"),
    (file(structs(array(4, (1, 1), small(4, b"\x00\xd8")))), "text that is not in utf-16-le"),
    (file(structs(array(4, (1, 1), small(4, b"abc")))), "text that is not in utf-16-le"),
    (file(structs(array(4, (1, 3), small(2, b"ab")))), "text of 2 characters in place of 3"),
    (file(array(2, (1, 1), small(5, bytes(4)) + small(1, b"a"), b"synsets")), "names of fields"),
    (file(array(2, (1, 1), small(5, b"\2\0\0\0") + small(1, b"a"), b"synsets")), "names of fields"),
    (file(array(2, (1, 1), element(5, b"") + small(1, b"a"), b"synsets")), "names of fields"),
    (file(element(14, element(6, b"\2\0\0\0"))), "1 words of flags in place of 2"),
    (file(element(14, element(6, b"\2\0\0"))), "3 bytes in place of a few integers"),
    (file(compressed(structs(element(14, b"")), b"more")), "before or after"),
    (file(element(15, zlib.compress(structs(element(14, b"")))[:-4])), "before or after"),
    (file(compressed(structs(element(14, b"")) + bytes(8))), "8 bytes too many"),
    (file(compressed(compressed(b""))), "an element of type 15 in place of 14"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_what_is_wrong(data, message):
    assert message in refusal(data)


@pytest.mark.parametrize(("size", "copies"), [(MAX_BYTES, 1), (MAX_BYTES // 2, 2)])
def test_what_unpacks_to_too_much_is_refused(size, copies):
    bomb = compressed(array(6, (1, 1), element(9, bytes(size))))
    assert f"more than {MAX_BYTES} bytes when unpacked" in refusal(file(bomb * copies))


def test_arrays_within_arrays_without_end_are_skipped_and_not_entered():
    nest = b""
    for _ in range(20_000):
        nest = struct.pack("<II", 14, len(nest)) + nest
    assert read_structs(file(structs(nest)), "synsets", ["b"]) == [{}]
    refusal(file(structs(nest)))


@pytest.mark.parametrize("seed", range(400))
def test_a_damaged_byte_of_a_compressed_file_is_harmless_or_refused(seed):
    chosen = random.Random(seed)
    data = bytearray(write_structs("synsets", FIELDS, ROWS))
    # Only the first 124 bytes, free text, may be anything.
    data[chosen.randrange(124, len(data))] ^= chosen.randrange(1, 256)
    try:
        assert read_structs(bytes(data), "synsets", FIELDS) == READ
    except MatError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_damaged_byte_of_an_open_file_gives_values_of_their_types_or_is_refused(order):
    number = array(6, (1, 1), small(2, b"a", order), order=order)
    text = array(4, (1, 5), element(16, b"tench", order), order=order)
    whole = file(structs(number, text, order=order), order=order)
    for at in range(124, len(whole)):
        for flip in (1, 2, 0x80, 0xFF):
            data = bytearray(whole)
            data[at] ^= flip
            try:
                rows = read_structs(bytes(data), "synsets", ["a"])
            except MatError:
                continue
            assert {type(v) for row in rows for v in row.values()} <= {int, float, str, type(None)}


@pytest.mark.parametrize("data", [saved(ROWS, compress=False), saved(ROWS)], ids=["open", "packed"])
def test_a_file_cut_at_any_byte_is_refused(data):
    for length in range(len(data)):
        refusal(data[:length], FIELDS)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_at_all_raise_another_error(noise, packed):
    try:
        read_structs(file(compressed(noise) if packed else noise), "synsets", FIELDS)
    except MatError:
        return


@given(st.lists(st.tuples(st.floats(allow_nan=False) | st.integers(0, 70_000),
                          st.text(LETTERS, min_size=1)), min_size=1, max_size=20))  # fmt: skip
def test_scipy_and_we_read_alike_what_either_wrote(rows):
    expected = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    ours = write_structs("synsets", FIELDS, rows)
    assert read_structs(ours, "synsets", FIELDS) == expected
    assert read_structs(saved(rows), "synsets", FIELDS) == expected
    loaded = loadmat(io.BytesIO(ours), squeeze_me=True)["synsets"].reshape(-1)
    assert [dict(zip(FIELDS, row, strict=True)) for row in loaded.tolist()] == expected


@given(st.lists(st.floats(allow_nan=False) | st.integers(0, 70_000), max_size=9))
def test_scipy_reads_the_lists_that_we_write(numbers):
    data = write_structs("s", ["n"], [[numbers]])
    assert loadmat(io.BytesIO(data))["s"]["n"][0, 0].tolist() == [numbers]
    assert read_structs(data, "s", ["n"])[0]["n"] == (numbers[0] if len(numbers) == 1 else None)


def test_infinity_and_no_number_are_written_and_read():
    data = write_structs("s", ["n"], [[math.inf], [math.nan]])
    infinite, none = (row["n"] for row in read_structs(data, "s", ["n"]))
    assert infinite == math.inf
    assert math.isnan(none)
