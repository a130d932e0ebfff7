"""What is told as whole holds the members of finished class tars, and of no others."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.class_tars import fall11, few_classes, inner_tars, untarred, whole_tar
from tests.support.tars import Entry, raw_tar

from imagenet_etl.archives.class_tars import ClassTar, Span
from imagenet_etl.archives.nested import Inside, list_inside
from imagenet_etl.archives.tar_gz import Unpacked
from imagenet_etl.errors import ArchiveChanged, ArchiveError, UnexpectedMember

BATCH = 3
BAD_SUM = Entry(b"z", checksum=b"000000\0 ")
KINDS = {
    "good": raw_tar,
    "cut": lambda entries: raw_tar(entries)[:-1100],
    "bad sum": lambda entries: raw_tar([*entries, BAD_SUM]),
    "unsafe": lambda entries: raw_tar([*entries, Entry(b"../evil")]),
    "changed": raw_tar,
    "empty": lambda _: raw_tar([]),
}
Spec = list[tuple[str, int]]


def listed(spec: Spec, *, tolerant: bool) -> tuple[list[Inside], ArchiveError | None]:
    """List class tars of some kinds and numbers of members, up to the error if there is one."""
    contents = [KINDS[kind]([Entry(b"%d" % m) for m in range(size)]) for kind, size in spec]
    tars = [ClassTar(f"{k}.tar", 0, len(data), 0) for k, data in enumerate(contents)]

    @contextmanager
    def opening(tar: ClassTar) -> Iterator[Span]:
        number = tars.index(tar)
        yield Span(Unpacked(contents[number], ""), 0, tar.size)
        if spec[number][0] == "changed":
            raise ArchiveChanged(f"{tar.name} changed")

    told = []
    with pytest.MonkeyPatch.context() as patch:
        for module in ("nested", "tar_walk"):
            patch.setattr(f"imagenet_etl.archives.{module}.BATCH_MEMBERS", BATCH)
        try:
            for inside in list_inside(tars, opening, "x", tolerant=tolerant):
                told.append(inside)
        except ArchiveError as error:
            return told, error
    return told, None


@given(st.lists(st.tuples(st.sampled_from(list(KINDS)), st.integers(1, 8)), max_size=12),
       st.booleans())  # fmt: skip
def test_whole_is_what_finished_class_tars_hold(spec: Spec, tolerant: bool) -> None:
    told, error = listed(spec, tolerant=tolerant)
    names: list[str] = []
    bad: list[str] = []
    for inside in told:
        names += inside.members["member"].to_pylist()
        bad += [one.tar.name for one in inside.bad]
        if inside.whole:
            finished = list(enumerate(spec[: inside.done]))
            good = [(k, size) for k, (kind, size) in finished if kind == "good"]
            assert names == [f"{k}.tar/{m}" for k, size in good for m in range(size)]
            assert set(bad) == {f"{k}.tar" for k, (kind, _) in finished if kind != "good"}
            assert len(bad) == len(set(bad))
    fatal = {"unsafe", "changed"} if tolerant else KINDS.keys() - {"good"}
    first = next((k for k, (kind, _) in enumerate(spec) if kind in fatal), None)
    if first is None:
        assert error is None
        assert not told or (told[-1].whole and told[-1].done == len(spec))
    else:
        assert f"{first}.tar" in str(error)


def test_a_name_twice_is_told_before_the_bad_class_tar_after_it(tmp_path) -> None:
    tars = inner_tars(few_classes())
    tars["n00000002"] = raw_tar([Entry(b"n00000002_1.JPEG"), Entry(b"n00000002_1.jpeg")])
    source = whole_tar(tmp_path / "x.tar", tars | {"n00000003": tars["n00000003"][:-1100]})
    with pytest.raises(UnexpectedMember, match=r"n00000002_1.jpeg appears twice"):
        untarred(fall11(tmp_path, source))
