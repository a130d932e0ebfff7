"""``meta.bin`` without PyTorch; ``scripts/interop`` opens it with the real one."""

import io
import pickle
import pickletools
import subprocess
import sys
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from imagenet_etl.labels.meta_bin import meta_bin

NAMES = {"n02510455": "giant panda, panda, coon bear", "n01440764": "tench"}
VAL = ["n01440764", "n02510455", "n01440764"]
# What PyTorch's restricted unpickler knows, as far as dicts, tuples, lists and text need it.
SAFE = {
    "PROTO", "EMPTY_DICT", "EMPTY_LIST", "MARK", "BINUNICODE", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SETITEM", "SETITEMS", "APPEND",
    "APPENDS", "STOP",
}  # fmt: skip


def loaded(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return pickle.loads(archive.read("meta/data.pkl"))


def test_names_are_tuples_by_wnid_and_validation_classes_a_list():
    assert loaded(meta_bin(NAMES, VAL)) == (
        {"n02510455": ("giant panda", "panda", "coon bear"), "n01440764": ("tench",)}, VAL
    )  # fmt: skip


def test_the_zip_is_laid_out_as_pytorch_does():
    data = meta_bin(NAMES, VAL)
    assert data.startswith(b"PK\3\4")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        members = {info.filename: info for info in archive.infolist()}
        assert list(members) == ["meta/data.pkl", "meta/byteorder", "meta/version"]
        assert {info.compress_type for info in members.values()} == {zipfile.ZIP_STORED}
        assert archive.read("meta/version") == b"3\n"
        assert archive.read("meta/byteorder") == b"little"


def test_equal_text_gives_equal_bytes_whether_or_not_it_is_one_object():
    wnids = ["".join(["n0144", "0764"]) for _ in range(3)]
    assert len({id(wnid) for wnid in wnids}) == 3
    assert meta_bin({wnids[0]: "tench"}, wnids) == meta_bin({wnids[0]: "tench"}, [wnids[0]] * 3)


def test_another_process_writes_the_same_bytes():
    code = (
        "import sys; from imagenet_etl.labels.meta_bin import meta_bin;"
        f"sys.stdout.buffer.write(meta_bin({NAMES!r}, {VAL!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == meta_bin(NAMES, VAL)


def test_torch_is_not_needed():
    code = (
        "import sys; sys.modules['torch'] = None;"
        "from imagenet_etl.labels.meta_bin import meta_bin; meta_bin({}, [])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(TEXT, st.lists(TEXT, min_size=1, max_size=5)), st.lists(TEXT))
def test_any_content_comes_back_and_needs_no_code_to_do_so(names, val):
    joined = {wnid: ", ".join(words) for wnid, words in names.items()}
    data = meta_bin(joined, val)
    expected = {wnid: tuple(text.split(", ")) for wnid, text in joined.items()}
    assert loaded(data) == (expected, val)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        opcodes = {code.name for code, _, _ in pickletools.genops(archive.read("meta/data.pkl"))}
    assert opcodes <= SAFE


def test_the_size_of_the_real_set_is_read_back():
    names = {f"n{n:08d}": f"name {n}, sample" for n in range(1000)}
    val = [f"n{n * 7919 % 1000:08d}" for n in range(50_000)]
    classes, found = loaded(meta_bin(names, val))
    assert (len(classes), found) == (1000, val)
